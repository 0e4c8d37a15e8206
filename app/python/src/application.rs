//! Registration, targets, and what moves connections.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use app::{Choice, Consent, JobName, Registration, Target, Terms, Unacknowledged};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::error::exception;
use crate::offer::{Connection, Heard, Offer};
use crate::view::TargetView;

/// How long a call waits before it looks whether a signal has come, or the application was closed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

type Registered = Arc<dyn Deref<Target = app::Application> + Send + Sync>;

/// An application that the agent knows. Iterating over it gives offers, until it is closed.
///
/// When the agent ends and comes back, it is registered again without a call. In a process that is forked after the
/// registration every call raises Error: register there.
#[pyclass(subclass, frozen, module = "baton")]
pub struct Application(Mutex<Option<Registered>>);

/// Talks to clients first and decides where each connection goes.
///
/// On a stack that does not own the DVIPA this waits until it does. `ports` are 1 to 1024 TCP ports, `listener` is the listening
/// socket that takes its clients: sockets that are named for a port take its clients in turn, whichever applications they are of, and
/// no other listener of that port takes any. While the application waits, its listener takes none. It listens until close().
/// `socket` is the agent's control socket. It is offered connections once it has called next_offer(), take_connection() or fileno(), or was iterated over.
#[pyclass(extends = Application, frozen, module = "baton")]
pub struct RoutingApplication;

#[pymethods]
impl RoutingApplication {
    #[new]
    #[pyo3(signature = (job, dvipa, ports, *, listener = None, socket = None))]
    fn new(
        py: Python<'_>,
        job: &str,
        dvipa: &str,
        ports: Vec<u16>,
        listener: Option<&Bound<'_, PyAny>>,
        socket: Option<PathBuf>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let registration = registration(job, dvipa, &ports, listener, socket)?;
        let made = py.detach(|| app::RoutingApplication::register(&registration));
        let application = Application::new(made.map_err(|e| exception(py, &e))?);
        Ok(PyClassInitializer::from(application).add_subclass(Self))
    }
}

/// Connections are transferred to it.
///
/// With `hold_accepts` its listener gets no new connections, only transferred ones: `listener`, or without it all listeners of its
/// ports on this host. `ports` are 1 to 1024 TCP ports, `listener` is as of RoutingApplication, `socket` is the agent's control
/// socket.
#[pyclass(extends = Application, frozen, module = "baton")]
pub struct TargetApplication;

#[pymethods]
impl TargetApplication {
    #[new]
    #[pyo3(signature = (job, dvipa, ports, *, hold_accepts = false, listener = None, socket = None))]
    fn new(
        py: Python<'_>,
        job: &str,
        dvipa: &str,
        ports: Vec<u16>,
        hold_accepts: bool,
        listener: Option<&Bound<'_, PyAny>>,
        socket: Option<PathBuf>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let registration = registration(job, dvipa, &ports, listener, socket)?.hold_accepts(hold_accepts);
        let made = py.detach(|| app::TargetApplication::register(&registration));
        let application = Application::new(made.map_err(|e| exception(py, &e))?);
        Ok(PyClassInitializer::from(application).add_subclass(Self))
    }
}

#[pymethods]
impl Application {
    /// The targets of one of its ports now, sorted, as "job@stack".
    fn targets(&self, py: Python<'_>, port: u16) -> PyResult<Vec<String>> {
        let application = self.open(py)?;
        let targets = py.detach(|| application.targets(port)).map_err(|e| exception(py, &e))?;
        Ok(texts(&targets))
    }

    /// The targets once they are not `known` any longer, or `known` when `timeout` seconds are over.
    #[pyo3(signature = (port, known, timeout = None))]
    fn targets_beyond(
        &self,
        py: Python<'_>,
        port: u16,
        known: Vec<String>,
        timeout: Option<f64>,
    ) -> PyResult<Vec<String>> {
        let known: Vec<Target> = known.iter().map(|text| target(text)).collect::<PyResult<_>>()?;
        let changed = self.patiently(py, timeout, |application, step| {
            let now = application.targets_beyond(port, &known, Some(step))?;
            Ok(Some(now).filter(|now| *now != known))
        })?;
        Ok(texts(&changed.unwrap_or(known)))
    }

    /// The target that the cluster chooses for the connection of `client`, an (address, port), as "job@stack".
    ///
    /// It is chosen as targets are selected for new connections: by the service's method, weights, policies and drains, among
    /// the applications of these names, or all, but not those in `besides`, which have refused the connection. Raises Refused with the reason
    /// "no_target" if there is none to choose. Nothing is transferred yet.
    #[pyo3(signature = (port, client, *jobs, besides = None))]
    fn choose(
        &self,
        py: Python<'_>,
        port: u16,
        client: &Bound<'_, PyAny>,
        jobs: Vec<String>,
        besides: Option<Vec<String>>,
    ) -> PyResult<String> {
        let client = address(&client.get_item(0)?.extract::<String>()?, client.get_item(1)?.extract()?)?;
        let bad = |e: app::BadJobName| PyValueError::new_err(e.to_string());
        let jobs: Vec<JobName> =
            jobs.iter().map(|job| JobName::new(job).map_err(bad)).collect::<PyResult<_>>()?;
        let besides = besides.unwrap_or_default();
        let besides: Vec<Target> = besides.iter().map(|text| target(text)).collect::<PyResult<_>>()?;
        let application = self.open(py)?;
        let chosen = py.detach(|| application.choose(port, client, &Choice::of(&jobs).besides(&besides)));
        Ok(chosen.map_err(|e| exception(py, &e))?.to_string())
    }

    /// How the targets of one of its ports are, sorted by name: state, weight, load and connections, at most a second ago.
    fn target_views(&self, py: Python<'_>, port: u16) -> PyResult<Vec<TargetView>> {
        let application = self.open(py)?;
        let views = py.detach(|| application.target_views(port)).map_err(|e| exception(py, &e))?;
        Ok(views.into_iter().map(TargetView::new).collect())
    }

    /// Moves a connection to a target that accepts it, and waits until it has moved: then `sock` is closed.
    ///
    /// Nothing is sent to the client. `state` is at most 16 MiB for the target application. `unacknowledged` says what to do about
    /// bytes that were sent and that the client has not acknowledged, as it has not when they have just been sent: "refuse" does
    /// not move the connection, a number of seconds waits so long for the acknowledgement, "carry" moves the bytes too.
    /// `give_back` is the last bytes that were read from it, at most 32 KiB: the next application reads them first. Raises Refused if it does
    /// not move; then it goes on here.
    #[pyo3(signature = (sock, target, *, state = None, unacknowledged = None, give_back = None))]
    fn transfer(
        &self,
        sock: &Bound<'_, PyAny>,
        target: &str,
        state: Option<&Bound<'_, PyAny>>,
        unacknowledged: Option<&Bound<'_, PyAny>>,
        give_back: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.moved(sock, Some(target), true, &How::new(state, unacknowledged, give_back)?)
    }

    /// As transfer(), without asking the target, which takes it with take_connection().
    #[pyo3(signature = (sock, target, *, state = None, unacknowledged = None, give_back = None))]
    fn give_connection(
        &self,
        sock: &Bound<'_, PyAny>,
        target: &str,
        state: Option<&Bound<'_, PyAny>>,
        unacknowledged: Option<&Bound<'_, PyAny>>,
        give_back: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.moved(sock, Some(target), false, &How::new(state, unacknowledged, give_back)?)
    }

    /// The client's transaction is complete: moves the connection to the routing application of its DVIPA and port.
    #[pyo3(signature = (sock, *, state = None, unacknowledged = None, give_back = None))]
    fn complete(
        &self,
        sock: &Bound<'_, PyAny>,
        state: Option<&Bound<'_, PyAny>>,
        unacknowledged: Option<&Bound<'_, PyAny>>,
        give_back: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.moved(sock, None, true, &How::new(state, unacknowledged, give_back)?)
    }

    /// Moves the connection of a descriptor, which its owner closes if this does not raise: for baton.aio.
    #[pyo3(signature = (fd, target, asks, *, state = None, unacknowledged = None, give_back = None))]
    fn _move(
        this: PyRef<'_, Self>,
        fd: RawFd,
        target: Option<&str>,
        asks: bool,
        state: Option<&Bound<'_, PyAny>>,
        unacknowledged: Option<&Bound<'_, PyAny>>,
        give_back: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        this.descriptor_moved(this.py(), fd, target, asks, &How::new(state, unacknowledged, give_back)?)
    }

    /// The next connection that is offered, or None when `timeout` seconds are over.
    #[pyo3(signature = (timeout = None))]
    fn next_offer(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Offer>> {
        let offer = self.patiently(py, timeout, |application, step| application.next_offer(Some(step)))?;
        Ok(offer.map(Offer::new))
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Offer>> {
        match self.next_offer(py, None) {
            Err(_) if self.closed() => Ok(None),
            offer => offer,
        }
    }

    /// The next connection that was given to this application without asking it, or None when `timeout` seconds are over.
    ///
    /// One that nobody takes within 60 s is closed.
    #[pyo3(signature = (timeout = None))]
    fn take_connection(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Connection>> {
        let taken =
            self.patiently(py, timeout, |application, step| application.take_connection(Some(step)))?;
        taken.map(|connection| Connection::new(py, connection)).transpose()
    }

    /// Says something to another application of the port: what is like bytes, at most 32 KiB.
    ///
    /// It comes to it at most once, in order, and without an answer; it is lost if that application, or a stack on the way, has
    /// ended, or if it does not listen. `client` is the (address, port) of the client whose connection it is about: of several
    /// processes it comes to the one that was transferred that connection.
    #[pyo3(signature = (port, target, message, *, client = None))]
    fn say(
        &self,
        py: Python<'_>,
        port: u16,
        target: &str,
        message: &Bound<'_, PyAny>,
        client: Option<(String, u16)>,
    ) -> PyResult<()> {
        let (to, message, application) = (self::target(target)?, bytes(message)?, self.open(py)?);
        let client = client.map(|(text, port)| address(&text, port)).transpose()?;
        py.detach(|| application.say(port, &to, client, &message)).map_err(|e| exception(py, &e))
    }

    /// What another application says next, or None when `timeout` seconds are over.
    ///
    /// Messages are kept from the first call on, which may have a timeout of 0; what came before is lost. 1024 messages wait to be
    /// read; later ones are lost.
    #[pyo3(signature = (timeout = None))]
    fn hear(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Heard>> {
        let heard = self.patiently(py, timeout, |application, step| application.hear(Some(step)))?;
        Ok(heard.map(Heard::new))
    }

    /// For select and the like: readable exactly while next_offer(), take_connection() or hear() would return with a timeout of 0.
    ///
    /// It stays the same when the agent ends and comes back.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        Ok(self.open(py)?.descriptor().as_raw_fd())
    }

    /// Ends the registration; calls that wait in other threads raise ValueError. Connections that it has are its own, and an offer
    /// that was not answered keeps it registered until it is.
    fn close(&self, py: Python<'_>) {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The thread behind it is waited for.
        py.detach(|| drop(taken));
    }

    /// Whether close() was called.
    #[getter]
    fn closed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }
}

impl Application {
    fn new(registered: impl Deref<Target = app::Application> + Send + Sync + 'static) -> Self {
        Self(Mutex::new(Some(Arc::new(registered))))
    }

    /// The application, if this process may use it.
    fn open(&self, py: Python<'_>) -> PyResult<Registered> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let open = open.ok_or_else(|| PyValueError::new_err("this application is closed"))?;
        open.of_this_process().map_err(|e| exception(py, &e))?;
        Ok(open)
    }

    fn moved(&self, sock: &Bound<'_, PyAny>, to: Option<&str>, asks: bool, how: &How) -> PyResult<()> {
        let py = sock.py();
        if !sock.hasattr("detach")? {
            return Err(PyTypeError::new_err(format!(
                "a {} can't be closed from here: pass a socket.socket, and what asyncio has to baton.aio",
                sock.get_type().name()?
            )));
        }
        self.descriptor_moved(py, sock.call_method0("fileno")?.extract()?, to, asks, how)?;
        // `close()` would leave it open for files that were made of it.
        let fd = sock.call_method0("detach")?;
        py.import("os")?.call_method1("close", (fd,))?;
        Ok(())
    }

    fn descriptor_moved(
        &self,
        py: Python<'_>,
        fd: RawFd,
        to: Option<&str>,
        asks: bool,
        how: &How,
    ) -> PyResult<()> {
        let (to, application) = (to.map(target).transpose()?, self.open(py)?);
        if fd < 0 {
            return Err(PyValueError::new_err("the socket is closed: pass an open one"));
        }
        // SAFETY: the socket is open, as it has just said, and stays so until the next line has its own descriptor.
        let held = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        let consent = if asks { Consent::Asked } else { Consent::Presumed };
        let result = py.detach(|| {
            use std::os::fd::AsFd;
            application.move_connection(held.as_fd(), to.as_ref(), consent, &how.terms())
        });
        result.map_err(|e| exception(py, &e))
    }

    /// Waits in short steps, so that signals and close() are heard; `None` when `timeout` (seconds) is over.
    fn patiently<T: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        step: impl Fn(&app::Application, Duration) -> Result<Option<T>, app::Error> + Sync,
    ) -> PyResult<Option<T>> {
        let limit = timeout.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)));
        let limit = limit.transpose().map_err(|e| PyValueError::new_err(e.to_string()))?;
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let left = deadline
                .map_or(LOOK_AGAIN, |at| at.saturating_duration_since(Instant::now()).min(LOOK_AGAIN));
            let application = self.open(py)?;
            let found = py.detach(|| {
                let found = step(&application, left);
                // If it was closed meanwhile, its thread is waited for here.
                drop(application);
                found
            });
            match found.map_err(|e| exception(py, &e))? {
                Some(found) => return Ok(Some(found)),
                None if deadline.is_some_and(|at| at <= Instant::now()) => return Ok(None),
                None => py.check_signals()?,
            }
        }
    }
}

/// What is said with a transfer, out of Python's hands.
struct How {
    state: Option<PyBackedBytes>,
    unacknowledged: Unacknowledged,
    give_back: Option<PyBackedBytes>,
}

impl How {
    fn new(
        state: Option<&Bound<'_, PyAny>>,
        unacknowledged: Option<&Bound<'_, PyAny>>,
        give_back: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            state: state.map(bytes).transpose()?,
            unacknowledged: unacknowledged.map_or(Ok(Unacknowledged::Refuse), what_to_do)?,
            give_back: give_back.map(bytes).transpose()?,
        })
    }

    fn terms(&self) -> Terms<'_> {
        let give_back = self.give_back.as_deref().unwrap_or_default();
        let terms = Terms::new().unacknowledged(self.unacknowledged).give_back(give_back);
        self.state.as_deref().map_or(terms, |state| terms.state(state))
    }
}

/// The bytes of what is like bytes: bytes, bytearray, memoryview, array, …
fn bytes(object: &Bound<'_, PyAny>) -> PyResult<PyBackedBytes> {
    if let Ok(bytes) = object.extract() {
        return Ok(bytes);
    }
    // The buffer protocol is not in the stable ABI before Python 3.11.
    let view = object.py().import("builtins")?.call_method1("memoryview", (object,))?;
    Ok(view.call_method0("tobytes")?.extract()?)
}

fn registration(
    job: &str,
    dvipa: &str,
    ports: &[u16],
    listener: Option<&Bound<'_, PyAny>>,
    socket: Option<PathBuf>,
) -> PyResult<Registration> {
    let dvipa: IpAddr =
        dvipa.parse().map_err(|_| PyValueError::new_err(format!("`{dvipa}` is not an IP address")))?;
    let mut made = Registration::new(job, dvipa, ports).map_err(|e| PyValueError::new_err(e.to_string()))?;
    if let Some(listener) = listener {
        let fd: RawFd = listener.call_method0("fileno")?.extract()?;
        if fd < 0 {
            return Err(PyValueError::new_err("the listener is closed: pass an open one"));
        }
        // SAFETY: the socket is open, as it has just said, and stays so until the next line has its own descriptor.
        made = made.listener(&unsafe { BorrowedFd::borrow_raw(fd) })?;
    }
    Ok(match socket {
        Some(path) => made.socket(path),
        None => made,
    })
}

fn target(text: &str) -> PyResult<Target> {
    text.parse().map_err(|e: app::BadTarget| PyValueError::new_err(e.to_string()))
}

fn address(text: &str, port: u16) -> PyResult<SocketAddr> {
    let bad = |_| PyValueError::new_err(format!("`{text}` is not an IP address"));
    Ok(SocketAddr::new(text.parse().map_err(bad)?, port))
}

fn texts(targets: &[Target]) -> Vec<String> {
    targets.iter().map(ToString::to_string).collect()
}

fn what_to_do(unacknowledged: &Bound<'_, PyAny>) -> PyResult<Unacknowledged> {
    if let Ok(seconds) = unacknowledged.extract::<f64>() {
        let at_most =
            Duration::try_from_secs_f64(seconds).map_err(|e| PyValueError::new_err(e.to_string()))?;
        return Ok(app::wait(at_most));
    }
    match unacknowledged.extract::<String>().as_deref() {
        Ok("refuse") => Ok(Unacknowledged::Refuse),
        Ok("carry") => Ok(Unacknowledged::Carry),
        _ => Err(PyTypeError::new_err("unacknowledged is \"refuse\", \"carry\" or seconds to wait")),
    }
}
