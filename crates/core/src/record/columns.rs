//! The layouts as tables: NumPy descriptions and Arrow columns.
