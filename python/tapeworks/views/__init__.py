"""Looking at what is stored: read-only, and safe while a recorder writes."""
