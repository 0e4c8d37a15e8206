//! The servers of `examples/python`, as targets of the documented router.

#[allow(dead_code)]
mod module;

use std::path::{Path, PathBuf};
use std::process::Command;

use module::documented::{DVIPA, ask, free_port, program, until};
use module::{Host, Running};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python").join(name)
}

/// Two requests on one connection are answered by a server of this name behind the documented router.
fn serves(host: &Host, server: &str, start: impl Fn(&str) -> Command) {
    program("request.py", host.path());
    let port = free_port();
    let text = port.to_string();
    let _router = host.spawn(&program("router.py", host.path()), &[DVIPA, &text]);
    until(port, "/", "503 Service Unavailable");
    let _target = Running::of(&mut start(&text));
    let mut kept = until(port, "/1", "has /1");
    let answer = ask(&mut kept, "/2").to_lowercase();
    assert!(answer.contains(&format!("server: {server}")) && answer.ends_with("has /2\n"), "{answer}");
}

/// An application for both of Python's interfaces.
fn application(host: &Host) {
    let text = "
async def asgi(scope, receive, send):
    if scope['type'] == 'http':
        body = f\"asgi has {scope['path']}\\n\".encode()
        headers = [(b'content-length', str(len(body)).encode())]
        await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
        await send({'type': 'http.response.body', 'body': body})

def wsgi(environ, start_response):
    body = f\"wsgi has {environ['PATH_INFO']}\\n\".encode()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
";
    std::fs::write(host.path().join("application.py"), text).expect("written");
}

#[test]
fn a_program_of_asyncio_serves_what_is_transferred_to_it() {
    let host = Host::start();
    serves(&host, "asyncio", |port| host.python(&example("asyncio_target.py"), &["pages", DVIPA, port]));
}

#[test]
fn uvicorn_serves_what_is_transferred_to_it() {
    let host = Host::start();
    if !host.has("uvicorn") {
        return;
    }
    application(&host);
    serves(&host, "uvicorn", |port| {
        host.python(&example("uvicorn_target.py"), &["pages", DVIPA, port, "application:asgi"])
    });
}

#[test]
fn gunicorn_serves_what_is_transferred_to_it() {
    let host = Host::start();
    if !host.has("gunicorn") {
        return;
    }
    application(&host);
    std::fs::copy(example("gunicorn_worker.py"), host.path().join("gunicorn_worker.py")).expect("copied");
    serves(&host, "gunicorn", |port| {
        let worker = ["--bind", "127.0.0.1:0", "--worker-class", "gunicorn_worker.Worker", "--threads", "4"];
        let mut command =
            host.python(Path::new("-m"), &[&["gunicorn"], &worker[..], &["application:wsgi"]].concat());
        command.env("BATON_TARGET", format!("pages {DVIPA} {port}")).current_dir(host.path());
        command
    });
}
