//! Numbers and texts of what went wrong.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};

use app::Error;

/// `enum baton_error`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Number {
    /// `BATON_OK`
    Ok = 0,
    /// `BATON_NOTHING`
    Nothing = -1,
    /// `BATON_NO_AGENT`
    NoAgent = -2,
    /// `BATON_CLOSED`
    Closed = -3,
    /// `BATON_SYSTEM`
    System = -4,
    /// `BATON_BAD_ARGUMENT`
    BadArgument = -5,
    /// `BATON_IN_DOUBT`
    InDoubt = -6,
    /// `BATON_FORKED`
    Forked = -7,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What the library says.
    #[error(transparent)]
    Library(#[from] Error),
    /// Nothing came.
    #[error("nothing came within the time")]
    Nothing,
    /// C passed something else than the header says.
    #[error("{0}")]
    Argument(String),
}

impl Failure {
    pub(crate) fn argument(what: impl ToString) -> Self {
        Failure::Argument(what.to_string())
    }

    fn number(&self) -> c_int {
        match self {
            Failure::Library(Error::Refused { why, .. }) => why.number().into(),
            Failure::Library(Error::Connect { .. }) => Number::NoAgent as c_int,
            Failure::Library(Error::Closed) => Number::Closed as c_int,
            Failure::Library(Error::InDoubt) => Number::InDoubt as c_int,
            Failure::Library(Error::Forked { .. }) => Number::Forked as c_int,
            Failure::Library(Error::System(_)) => Number::System as c_int,
            Failure::Nothing => Number::Nothing as c_int,
            Failure::Argument(_) => Number::BadArgument as c_int,
        }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// The number of a result; its text is kept for [`baton_error_text`].
pub(crate) fn number(result: Result<(), Failure>) -> c_int {
    let Err(failure) = result else { return Number::Ok as c_int };
    // A text has no 0 but one that C passed in, and that ended there.
    let text = CString::new(failure.to_string()).unwrap_or_default();
    LAST.with(|last| last.replace(text));
    failure.number()
}

/// See `baton.h`.
#[unsafe(no_mangle)]
pub extern "C" fn baton_error_text() -> *const c_char {
    LAST.with(|last| last.borrow().as_ptr())
}
