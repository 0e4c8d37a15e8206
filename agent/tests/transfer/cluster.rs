//! Two hosts with an agent each, in processes of their own, a routing stack that the test plays, and a client.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use app::{Registration, TargetApplication};
use baton_agent::Config;
use baton_agent::admin;
use baton_agent::runtime::Agent;
use baton_agent::transfers::notes;
use lab::Namespace;
use lab::fabric::Fabric;
use lab::registry::Record;
use lab::spec::{self, CLIENT, DVIPA, Spec};
use model::{Connection, StackName};
use transfer::halt;
use transport::pki;

use crate::bench::connection_of;
use crate::routing_stack::{PORT, RoutingStack};

/// Names the configuration for the process that [`agent_process`] becomes.
const CONFIG: &str = "BATON_TEST_AGENT_CONFIG";

/// A host and its agent.
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) name: StackName,
    config: PathBuf,
    pub(crate) run: PathBuf,
    agent: Option<Child>,
}

/// Dropping it removes everything.
pub(crate) struct Cluster {
    pub(crate) hosts: [Host; 2],
    pub(crate) routing_stack: RoutingStack,
    pub(crate) client: Namespace,
    /// Clears up when it is dropped, last.
    pub(crate) record: Record,
}

impl Cluster {
    /// Both agents have told what is there.
    pub(crate) fn new() -> Self {
        Self::routed_by("rt1")
    }

    /// The same with a routing stack of this name.
    pub(crate) fn routed_by(name: &str) -> Self {
        let record = Record::open().unwrap();
        let fabric = Fabric::build(&Spec { targets: 2, ..Spec::default() }, &record).unwrap();
        let pki = record.files().join("pki");
        pki::init(&pki).unwrap();
        for stack in ["rt1", "t1", "t2"] {
            pki::issue(&pki, &stack.parse().unwrap(), 1).unwrap();
        }
        let client = fabric.host("client").clone();
        let routing_stack = RoutingStack::start(&client, name, &pki);
        let hosts = [1, 2].map(|number| Host::new(&fabric, number, name, &record));
        let mut cluster = Self { hosts, routing_stack, client, record };
        for host in 0..2 {
            cluster.start_agent(host);
        }
        cluster
    }

    pub(crate) fn start_agent(&mut self, host: usize) {
        self.hosts[host].start();
        let name = self.hosts[host].name.clone();
        self.routing_stack.wait("an account", |seen| seen.accounts.contains(&name));
    }

    /// Ends an agent as if the power went out for it alone.
    pub(crate) fn kill_agent(&mut self, host: usize) {
        let mut agent = self.hosts[host].agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
        let name = self.hosts[host].name.clone();
        self.routing_stack.wait("the end of a session", |seen| !seen.accounts.contains(&name));
    }

    /// A connection of the client with the first host: the client's end, the server's, and which it is.
    pub(crate) fn connect(&self, dvipa: IpAddr) -> (TcpStream, TcpStream, Connection) {
        let any: SocketAddr = if dvipa.is_ipv4() { ([0; 4], PORT).into() } else { ([0u16; 8], PORT).into() };
        let listener = self.hosts[0].namespace.enter(|| TcpListener::bind(any).unwrap());
        let client = self.client.enter(|| TcpStream::connect((dvipa, PORT)).unwrap());
        let (server, _) = listener.accept().unwrap();
        let connection = connection_of(&server);
        (client, server, connection)
    }
}

impl Host {
    fn new(fabric: &Fabric, number: u8, routing_stack: &str, record: &Record) -> Self {
        let name = format!("t{number}");
        let run = record.directory().join(&name);
        fs::create_dir_all(&run).unwrap();
        let bpf = run.join("bpf");
        record.note("mount", &bpf.display().to_string()).unwrap();
        let (v4, v6) = spec::host(spec::target(number));
        let text = format!(
            "[node]\nname = \"{name}\"\ncluster_address = [\"{v4}\", \"{v6}\"]\ninterface = \"eth0\"\n\
             [cluster]\nca = \"pki/ca.pem\"\ncertificate = \"pki/{name}.pem\"\nkey = \"pki/{name}.key\"\n\
             heartbeat_ms = 100\nlost_after_ms = 1000\n\
             [[routing_stack]]\nname = \"{routing_stack}\"\ncontrol = \"{client}:7440\"\n\
             [admin]\nsocket = \"{run}/agent.sock\"\n[applications]\nsocket = \"{run}/applications.sock\"\n\
             [bpf]\npin = \"{bpf}\"\n",
            client = CLIENT.0,
            run = run.display(),
            bpf = bpf.display(),
        );
        let config = record.files().join(format!("{name}.toml"));
        fs::write(&config, text).unwrap();
        let namespace = fabric.host(&name).clone();
        Self { namespace, name: name.parse().unwrap(), config, run, agent: None }
    }

    fn start(&mut self) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "cluster::agent_process"]);
        command
            .env(CONFIG, &self.config)
            .env(halt::FILE, self.halt())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let log =
            fs::File::options().create(true).append(true).open(self.config.with_extension("log")).unwrap();
        command.stderr(log);
        self.agent = Some(self.namespace.enter(|| command.spawn().unwrap()));
    }

    /// A target application of this host.
    pub(crate) fn application(&self, job: &str) -> TargetApplication {
        TargetApplication::register(&self.registration(job)).unwrap()
    }

    pub(crate) fn registration(&self, job: &str) -> Registration {
        let socket = self.run.join("applications.sock");
        Registration::new(job, DVIPA.0.into(), &[PORT]).unwrap().socket(socket)
    }

    fn halt(&self) -> PathBuf {
        self.run.join("halt")
    }

    /// Has the agent stand still before the next such step of a transfer.
    pub(crate) fn halt_at(&self, step: &str) {
        fs::write(self.halt(), step).unwrap();
    }

    /// Waits until it does.
    pub(crate) fn wait_for_halt(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while !self.halt().with_extension("reached").exists() {
            assert!(Instant::now() < until, "{} does not come to the step", self.name);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many notes of transfers there are.
    pub(crate) fn notes(&self) -> usize {
        notes::count(&self.run.join("transfers").join(self.name.as_str())).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.record.keep_files();
        }
        for agent in self.hosts.iter_mut().filter_map(|host| host.agent.as_mut()) {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

/// No test: the process of an agent, so that one can be killed.
#[test]
#[ignore = "is started by the other tests"]
fn agent_process() {
    let Ok(path) = std::env::var(CONFIG) else { return };
    let config = Config::load(Path::new(&path)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = admin::open(&config.admin_socket).await.unwrap();
        let agent = Agent::start(config).await.unwrap();
        tokio::spawn(admin::serve(socket, agent.questions()));
        agent.run(std::future::pending()).await;
    });
}
