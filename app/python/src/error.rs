//! Exceptions: `baton.Error`, and below it `baton.Refused` and `baton.Closed`.

use app::Error;
use pyo3::create_exception;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

create_exception!(baton, BatonError, PyOSError, "A call of baton failed; the text says what to do next.");
create_exception!(
    baton,
    Refused,
    BatonError,
    "The agent does not do it; `reason` is a word for programs. The connection goes on where it is."
);
create_exception!(
    baton,
    Closed,
    BatonError,
    "The agent that made an offer has ended. Nothing was decided: the connection goes on where it was."
);

/// The exception for an error.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let text = error.to_string();
    let made = match error {
        Error::Refused { .. } => Refused::new_err(text),
        Error::Closed => Closed::new_err(text),
        Error::Connect { .. } | Error::InDoubt | Error::System(_) => BatonError::new_err(text),
    };
    // What can't be set on an exception is told by its text.
    let _ = made.value(py).setattr("reason", error.refusal().map(app::Refusal::name));
    made
}
