//! Order books.
