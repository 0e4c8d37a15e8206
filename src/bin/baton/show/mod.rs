//! Tables for people: aligned, sorted, with units and a word for every state. `--json` has the same fields.

mod crt;
mod dpt;
mod plain;
mod stats;
mod status;
mod table;
mod vipa;

pub(crate) use crt::crt;
pub(crate) use dpt::dpt;
pub(crate) use stats::stats;
pub(crate) use status::status;
pub(crate) use table::{Rows, bytes, number, or_dash, percent, time, word};
pub(crate) use vipa::vipa;
