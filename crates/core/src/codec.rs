//! Records and blobs to framed bytes: length, version, checksum.
