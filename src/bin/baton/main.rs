//! `baton`, the operator's command line.
//!
//! In reading order: [`arguments`] (what can be typed), [`client`] (HTTP over the admin socket), [`orders`]
//! (which request a command is), [`moving`] (orders that take a while), [`show`] (tables for people), [`check`], [`config`] (one key of the configuration, and former ones), [`schema`] (which keys there are, for editors), [`events`] (what happened lately), [`top`] (all of it, live), [`doctor`] (what is in a host's way), [`nic`] (drivers of PCI NICs), [`route`] (which route takes a request), [`why`] (what would become of a packet), [`trace`] (what becomes of packets that pass), [`convert`] (configurations of others), [`pki`], [`generate`] (completions and
//! manual pages), [`failure`] (what went wrong, and the exit code).

mod arguments;
mod check;
mod client;
mod config;
mod convert;
mod doctor;
mod events;
mod failure;
mod generate;
mod moving;
mod nic;
mod orders;
mod pki;
mod route;
mod schema;
mod show;
mod top;
mod trace;
mod why;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, RouteCommand};
use convert::ConvertCommand;
use failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    let (text, code) = match run(arguments) {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(failure @ Failure::Shown(_)) => (failure.text(), failure.code()),
        Err(failure) if json => (failure.json(), failure.code()),
        Err(failure) => {
            eprint!("{}", failure.text());
            return failure.code();
        }
    };
    // A closed pipe (`baton crt | head`) is no failure.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Failure::Output(error).code(),
        _ => code,
    }
}

/// Does what was typed, and returns what is to be printed.
fn run(Arguments { socket, json, command }: Arguments) -> Result<String, Failure> {
    match command {
        Command::Check { file, program, file_only } => {
            check::check(check::What { file: &file, program, file_only }, json)
        }
        Command::Config(command) => config::run(&socket, json, &command),
        Command::Schema { program } => schema::print(program),
        Command::Route(RouteCommand::Explain(a)) => route::explain(&socket, json, &a),
        Command::Convert(ConvertCommand::Keepalived { file }) => convert::keepalived(&file),
        Command::Doctor(a) => doctor::run(&a, json),
        Command::Events { follow } => events::run(&socket, json, follow),
        Command::Top(a) => top::run(&socket, &a),
        Command::Why(a) => why::run(&socket, json, &a),
        Command::Trace(a) => trace::run(&socket, json, &a),
        Command::Capture(a) => trace::capture::run(&socket, &a),
        Command::Nic(command) => nic::run(&command, json),
        Command::Setup(command) => doctor::setup(&command),
        Command::Pki(command) => pki::run(command, json),
        Command::Completions { shell, program } => Ok(generate::completions(shell, &program)),
        Command::Man { dir } => generate::manual(&dir),
        Command::Ask(ask) => orders::run(&socket, json, &ask),
        Command::Follow(follow) => moving::run(&socket, json, &follow),
    }
}
