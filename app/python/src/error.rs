//! Exceptions: `baton.Error`, and below it what programs tell apart.

use pyo3::create_exception;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

create_exception!(
    baton,
    Error,
    PyOSError,
    "A call of baton failed; the text says what to do next. `reason` is None."
);
create_exception!(
    baton,
    Refused,
    Error,
    "The agent does not do it; `reason` is a word for programs. The connection goes on where it is."
);
create_exception!(
    baton,
    NoAgent,
    Error,
    "There is no agent, or this user may not use its control socket, or an agent has ended and did not come back within\n\
     30 s. A connection that was to be moved goes on here."
);
create_exception!(
    baton,
    Closed,
    Error,
    "The agent that made an offer has ended. Nothing was decided: the connection goes on where it was."
);
create_exception!(
    baton,
    InDoubt,
    Error,
    "The agent ended while a connection moved, and did not come back within 30 s. The connection has moved or not: close it."
);

/// Adds them to the module.
pub(crate) fn fill(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let error = m.py().get_type::<Error>();
    error.setattr("reason", m.py().None())?;
    m.add("Error", error)?;
    m.add("Refused", m.py().get_type::<Refused>())?;
    m.add("NoAgent", m.py().get_type::<NoAgent>())?;
    m.add("Closed", m.py().get_type::<Closed>())?;
    m.add("InDoubt", m.py().get_type::<InDoubt>())
}

/// The exception for an error.
pub(crate) fn exception(py: Python<'_>, error: &app::Error) -> PyErr {
    let text = error.to_string();
    let made = match error {
        app::Error::Refused { .. } => Refused::new_err(text),
        app::Error::Connect { .. } => NoAgent::new_err(text),
        app::Error::Closed => Closed::new_err(text),
        app::Error::InDoubt => InDoubt::new_err(text),
        app::Error::Forked { .. } | app::Error::System(_) => Error::new_err(text),
    };
    if let Some(refusal) = error.refusal() {
        // What can't be set on an exception is told by its text.
        let _ = made.value(py).setattr("reason", refusal.name());
    }
    made
}
