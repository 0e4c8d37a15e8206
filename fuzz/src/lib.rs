//! What the fuzz targets do with their bytes: one module a parser of untrusted bytes.
//!
//! Each `run` takes any bytes and panics only if the code under test broke a promise. The ordinary tests run the files
//! in `regressions/` through the same functions.

pub mod codec;
pub mod config;
pub mod connection_state;
pub mod control_socket;
pub mod crt_file;
pub mod headers;
pub mod packet_path;
pub mod routes;
pub mod tunnel;
