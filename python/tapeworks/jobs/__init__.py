"""Work on a whole data folder, done once and then over."""
