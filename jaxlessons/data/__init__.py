"""Where images and text come from, and what is done to them on the device."""
