//! baton-app for Python: the module `baton`.
//!
//! Connections are Python's own `socket.socket`s. A call that waits lets other Python threads run, and wakes up for
//! signals.
//!
//! In reading order: [`error`] (exceptions), [`application`] (the calls), [`offer`].

pub mod application;
pub mod error;
pub mod offer;

use pyo3::prelude::*;

/// Give live TCP connections away, and be given others. See help(baton.RoutingApplication) and
/// help(baton.TargetApplication).
#[pymodule]
#[pyo3(name = "baton")]
fn fill(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<application::RoutingApplication>()?;
    m.add_class::<application::TargetApplication>()?;
    m.add_class::<offer::Offer>()?;
    m.add("Error", m.py().get_type::<error::BatonError>())?;
    m.add("Refused", m.py().get_type::<error::Refused>())?;
    m.add("Closed", m.py().get_type::<error::Closed>())?;
    Ok(())
}
