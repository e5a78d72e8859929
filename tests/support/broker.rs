//! A RabbitMQ of our own: started in a temporary folder on free ports of the loopback, one per test program, and
//! gone with it.
//!
//! Nothing is shared with a broker that the machine may run: own node name, own folders, own cookie, own epmd.
//! A watchdog (`sh`) holds the reading end of a pipe; when the test program ends, however it ends, the pipe closes
//! and the watchdog kills what is left and removes the folder.
//!
//! `ASYNCTASK_TEST_BROKER_ROOT=DIR` takes the broker's programs from another root folder, one that `debootstrap` filled
//! and that has `/proc` and `/dev` mounted: so another version of RabbitMQ is tested, by root, with all that is tested
//! of this machine's. `ASYNCTASK_TEST_BROKER=amqp://…` supplies a running broker instead (its default virtual host is
//! used and it can be neither stopped nor controlled; what needs that is left out, and says so).
//! `ASYNCTASK_REQUIRE_BROKER=1` makes the absence of all of them a failure.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
const VHOSTS: usize = 12;

/// The broker of this test program; `None` when there is none, after saying so.
pub fn shared() -> Option<&'static Broker> {
    static SHARED: OnceLock<Option<Broker>> = OnceLock::new();
    let broker = SHARED.get_or_init(|| Broker::find(&Settings::default())).as_ref();
    if broker.is_none() {
        super::left_out("no rabbitmq-server found");
    }
    broker
}

/// The broker of this test program, if it is ours to control; `None` as with [`shared`], or when one was supplied.
pub fn controlled() -> Option<&'static Broker> {
    let broker = shared()?;
    if !broker.is_own() {
        super::left_out("the broker was supplied from outside and is not ours to control");
        return None;
    }
    Some(broker)
}

/// A broker of one test alone, which may kill it; `None` as with [`shared`], or when one was supplied from outside.
pub fn own() -> Option<Broker> {
    if std::env::var_os("ASYNCTASK_TEST_BROKER").is_some() {
        super::left_out("the broker was supplied from outside and is not ours to kill");
        return None;
    }
    let broker = Broker::find(&Settings::default());
    if broker.is_none() {
        super::left_out("no rabbitmq-server found");
    }
    broker
}

/// A broker of one test alone with more in its settings and these plugins. Not where the programs are in another root
/// folder, which does not see the files of this one.
pub fn own_with(settings: &str, plugins: &str) -> Option<Broker> {
    let elsewhere = ["ASYNCTASK_TEST_BROKER", "ASYNCTASK_TEST_BROKER_ROOT"];
    if elsewhere.iter().any(|name| std::env::var_os(name).is_some()) {
        super::left_out("the broker was supplied from outside and does not see the files of this test");
        return None;
    }
    shared()?;
    Some(Broker::of(Node::start(None, &Settings { plain: settings, plugins, ..Settings::default() })))
}

/// A broker of this test program that gives up what is unacknowledged for 5 s, where others wait 30 minutes: it looks for
/// such each second and closes their channels. `None` as with [`own`].
pub fn impatient() -> Option<&'static Broker> {
    static IMPATIENT: OnceLock<Option<Broker>> = OnceLock::new();
    if std::env::var_os("ASYNCTASK_TEST_BROKER").is_some() {
        super::left_out("the broker was supplied from outside, and is not to be configured");
        return None;
    }
    let advanced = "[{rabbit, [{channel_tick_interval, 1000}]}].\n";
    let settings = Settings { plain: "consumer_timeout = 5000\n", advanced, plugins: "" };
    let broker = IMPATIENT.get_or_init(|| Broker::find(&settings)).as_ref();
    if broker.is_none() {
        super::left_out("no rabbitmq-server found");
    }
    broker
}

/// What a broker is configured with beside what all of ours have.
#[derive(Default)]
struct Settings<'a> {
    /// Lines of `rabbitmq.conf`.
    plain: &'a str,
    /// All of `advanced.config`; empty: none.
    advanced: &'a str,
    plugins: &'a str,
}

/// A running broker.
pub struct Broker {
    /// `amqp://user:password@host:port`, without a virtual host.
    base: String,
    node: Option<Node>,
    vhosts: AtomicUsize,
    made: Mutex<usize>,
}

struct Node {
    /// The root folder of its programs, where it is not the machine's.
    root: Option<PathBuf>,
    /// As its programs see it.
    folder: PathBuf,
    name: String,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    epmd: Child,
    server: Mutex<Child>,
    watchdog: Mutex<Child>,
}

impl Broker {
    fn find(settings: &Settings<'_>) -> Option<Self> {
        if let Ok(base) = std::env::var("ASYNCTASK_TEST_BROKER") {
            let base = base.trim_end_matches('/').to_owned();
            return Some(Self { base, node: None, vhosts: AtomicUsize::new(0), made: Mutex::new(0) });
        }
        let root = std::env::var_os("ASYNCTASK_TEST_BROKER_ROOT").map(PathBuf::from);
        if !outside(root.as_deref(), Path::new(SERVER)).exists() {
            assert!(root.is_none(), "ASYNCTASK_TEST_BROKER_ROOT holds no {SERVER}");
            assert!(std::env::var_os("ASYNCTASK_REQUIRE_BROKER").is_none(), "no rabbitmq-server, but one is required");
            return None;
        }
        Some(Self::of(Node::start(root, settings)))
    }

    fn of(node: Node) -> Self {
        let base = format!("amqp://guest:guest@127.0.0.1:{}", node.port);
        Self { base, node: Some(node), vhosts: AtomicUsize::new(0), made: Mutex::new(0) }
    }

    /// Whether it is ours to control.
    pub fn is_own(&self) -> bool {
        self.node.is_some()
    }

    /// The address of a virtual host that no other test of this program uses.
    pub fn fresh_vhost(&self) -> String {
        if self.node.is_none() {
            let has_vhost = self.base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
            return if has_vhost { self.base.clone() } else { format!("{}/%2f", self.base) };
        }
        let number = self.vhosts.fetch_add(1, Ordering::Relaxed);
        let mut made = self.made.lock().unwrap();
        if number >= *made {
            // One call makes a dozen: each start of the control program costs over a second.
            let from = *made;
            self.control(&["eval", &format!(
                "[begin V = iolist_to_binary([<<\"t\">>, integer_to_binary(N)]), rabbit_vhost:add(V, <<\"guest\">>), \
                 rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, V, <<\".*\">>, <<\".*\">>, <<\".*\">>, \
                 <<\"guest\">>) end || N <- lists:seq({from}, {})].", from + VHOSTS - 1)]);
            *made += VHOSTS;
        }
        format!("{}/t{number}", self.base)
    }

    /// Its port on the loopback.
    pub fn port(&self) -> u16 {
        let given = || self.base.split('/').nth(2)?.rsplit_once(':')?.1.parse().ok();
        let port = self.node.as_ref().map(|node| node.port).or_else(given);
        port.expect(
            "ASYNCTASK_TEST_BROKER names a port of this machine's loopback: amqp://user:password@127.0.0.1:5672",
        )
    }

    /// Its log so far. Only of one that was started here.
    pub fn log(&self) -> String {
        let node = self.node.as_ref().expect("only an own broker's log is known");
        let files = std::fs::read_dir(node.folder().join("log")).expect("it has one").flatten();
        files
            .map(|file| String::from_utf8_lossy(&std::fs::read(file.path()).unwrap_or_default()).into_owned())
            .collect()
    }

    /// Runs `rabbitmqctl` and gives its output.
    pub fn control(&self, arguments: &[&str]) -> String {
        let node = self.node.as_ref().expect("only an own broker can be controlled");
        let mut command = node.command(CONTROL);
        let command = node.environment(command.args(["-q", "-n", &node.name]).args(arguments));
        let output = command.stdin(Stdio::null()).output().expect("rabbitmqctl can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Refuses larger messages from now on. RabbitMQ 4 reads the setting once and keeps it as a persistent term.
    pub fn limit_message_size(&self, bytes: usize) {
        self.control(&["eval", &format!(
            "application:set_env(rabbit, max_message_size, {bytes}), persistent_term:put(max_message_size, {bytes}).")]);
    }

    /// Ends it as a power cut would end the process: SIGKILL.
    pub fn kill(&self) {
        let node = self.node.as_ref().expect("only an own broker can be killed");
        let mut server = node.server.lock().unwrap();
        server.kill().expect("the server is our child");
        server.wait().expect("the server is our child");
    }

    /// Starts it again on the same port and folder.
    pub fn restart(&self) {
        let node = self.node.as_ref().expect("only an own broker can be started");
        *node.server.lock().unwrap() = node.spawn_server();
        node.tell_watchdog();
        node.wait_ready();
    }
}

impl Node {
    fn start(root: Option<PathBuf>, settings: &Settings<'_>) -> Self {
        let temporary = outside(root.as_deref(), &std::env::temp_dir());
        let made = tempfile::Builder::new().prefix("broker-").tempdir_in(temporary).expect("a temporary folder").keep();
        let folder = std::env::temp_dir().join(made.file_name().expect("it has a name"));
        Self::fill(&made, settings);
        let [port, dist_port, epmd_port] = free_ports();
        let epmd = command(root.as_deref(), "epmd")
            .args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd comes with rabbitmq-server");
        wait_port(epmd_port);
        let watchdog = Command::new("sh")
            .args([
                "-c",
                "while read line; do pids=$line; done; kill -9 $pids; rm -rf \"$0\" || { sleep 1; rm -rf \"$0\"; }",
            ])
            .arg(&made)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let name = format!("asynctask{port}@localhost");
        let server = Mutex::new(epmd_placeholder());
        let node =
            Self { root, folder, name, port, dist_port, epmd_port, epmd, server, watchdog: Mutex::new(watchdog) };
        *node.server.lock().unwrap() = node.spawn_server();
        node.tell_watchdog();
        node.wait_ready();
        node
    }

    /// Fills a broker's folder with what it reads at its start.
    fn fill(folder: &Path, settings: &Settings<'_>) {
        std::fs::create_dir_all(folder.join("home")).expect("a folder of ours");
        let cookie = folder.join("home/.erlang.cookie");
        std::fs::write(&cookie, "ASYNCTASKTESTBROKER").expect("a file of ours");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        std::fs::set_permissions(&cookie, private).expect("a file of ours");
        std::fs::write(folder.join("plugins"), format!("[{}].", settings.plugins)).expect("a file of ours");
        let plain = format!("disk_free_limit.absolute = 1MB\nlog.file.level = warning\n{}", settings.plain);
        std::fs::write(folder.join("rabbit.conf"), plain).expect("a file of ours");
        if !settings.advanced.is_empty() {
            std::fs::write(folder.join("advanced.config"), settings.advanced).expect("a file of ours");
        }
    }

    fn command(&self, program: &str) -> Command {
        command(self.root.as_deref(), program)
    }

    /// Its folder as this process sees it.
    fn folder(&self) -> PathBuf {
        outside(self.root.as_deref(), &self.folder)
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("HOME", self.folder.join("home"))
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", self.folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", self.folder.join("log"))
            .env("RABBITMQ_CONFIG_FILE", self.folder.join("rabbit.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", self.folder.join("advanced.config"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.folder.join("plugins"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", self.folder.join("config"))
            .env("LANG", "C.UTF-8")
    }

    fn spawn_server(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.folder().join("stdout"));
        let log = log.expect("a file of ours");
        self.environment(
            self.command(SERVER)
                // The script's own switch for "replace the shell": the child's pid is the broker's.
                .env("detached", "true")
                .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-start_epmd false")
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a file of ours"))
                .stderr(log),
        )
        .spawn()
        .expect("the server is installed")
    }

    fn tell_watchdog(&self) {
        let line = format!("{} {}\n", self.server.lock().unwrap().id(), self.epmd.id());
        let mut watchdog = self.watchdog.lock().unwrap();
        let pipe = watchdog.stdin.as_mut().expect("its input is piped");
        pipe.write_all(line.as_bytes()).expect("the watchdog reads");
    }

    /// Waits until the broker answers a protocol header; the listener opens last in its start.
    fn wait_ready(&self) {
        for _ in 0..600 {
            if speaks_amqp(self.port) {
                return;
            }
            if let Ok(Some(status)) = self.server.lock().unwrap().try_wait() {
                let log = std::fs::read_to_string(self.folder().join("stdout")).unwrap_or_default();
                panic!("the broker ended with {status}: {log}");
            }
            pause();
        }
        panic!("the broker did not answer within a minute; see {}", self.folder().display());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The watchdog does the rest when its pipe closes.
        let _ = self.server.lock().unwrap().kill();
        let _ = self.server.lock().unwrap().wait();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
        let mut watchdog = self.watchdog.lock().unwrap();
        drop(watchdog.stdin.take());
        let _ = watchdog.wait();
    }
}

/// A port that nobody has now.
pub fn free_port() -> u16 {
    free_ports()[0]
}

/// A path of another root folder, as this process sees it.
fn outside(root: Option<&Path>, path: &Path) -> PathBuf {
    root.map_or_else(|| path.to_owned(), |root| root.join(path.strip_prefix("/").unwrap_or(path)))
}

/// A program of another root folder. `chroot` becomes the program: its pid is the program's.
fn command(root: Option<&Path>, program: &str) -> Command {
    let Some(root) = root else { return Command::new(program) };
    let mut command = Command::new("chroot");
    command.arg(root).arg(program).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn epmd_placeholder() -> Child {
    Command::new("true").spawn().expect("there is a `true`")
}

fn speaks_amqp(port: u16) -> bool {
    use std::io::Read as _;
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    stream.write_all(b"AMQP\0\0\x09\x01").is_ok() && matches!(stream.read(&mut [0; 8]), Ok(read) if read > 0)
}

fn wait_port(port: u16) {
    for _ in 0..100 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        pause();
    }
    panic!("nothing listens on port {port}");
}

/// The step of a bounded poll inside this harness; tests themselves wait for events.
fn pause() {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(100));
}

fn free_ports() -> [u16; 3] {
    // Held together, so that they differ.
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}
