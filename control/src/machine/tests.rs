//! The transition table row by row, then what it has to come to.

mod connections;
mod definitions;
mod limits;
mod lists;
mod losses;
mod moves;
mod notes;
mod operations;
mod selection;
mod storms;
mod table;
mod transfers;
