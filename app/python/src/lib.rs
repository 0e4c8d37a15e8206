//! baton-app for Python: the part of the package `baton` that is not Python, `baton._baton`.
//!
//! Connections are Python's own `socket.socket`s. A call that waits lets other Python threads run, and wakes up for
//! signals. `baton/` has the package around it: what users import, its types, and `baton.aio`.
//!
//! In reading order: [`error`] (exceptions), [`application`] (the calls), [`offer`] (offers, and connections that have come), [`view`]
//! (how targets are).

pub mod application;
pub mod error;
pub mod offer;
pub mod view;

use pyo3::prelude::*;

/// What the package `baton` is made of.
#[pymodule]
#[pyo3(name = "_baton")]
fn fill(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<application::Application>()?;
    m.add_class::<application::RoutingApplication>()?;
    m.add_class::<application::TargetApplication>()?;
    m.add_class::<offer::Offer>()?;
    m.add_class::<offer::Connection>()?;
    m.add_class::<offer::Heard>()?;
    m.add_class::<view::TargetView>()?;
    error::fill(m)
}
