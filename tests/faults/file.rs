//! The file: locked, read-only, damaged, without room, and worked by masters that are killed.
