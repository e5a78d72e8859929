//! A PostgreSQL of our own: started in a temporary folder on a free port of the loopback, one per test program, and gone with it.
//!
//! The server refuses to run as root; then its folder is given to `postgres`, or `nobody`, and its programs run as that user. A
//! watchdog (`sh`) holds the reading end of a pipe; when the test program ends, however it ends, the pipe closes and the watchdog ends
//! the server by its process id and removes the folder.
//!
//! `ASYNCTASK_TEST_POSTGRES=postgres://…` supplies a running server instead, whose user may make databases.
//! `ASYNCTASK_REQUIRE_POSTGRES=1` makes the absence of both a failure.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// The server of this test program; `None` when there is none, after saying so.
pub fn shared() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    let server = SHARED.get_or_init(|| Server::find(false)).as_ref();
    if server.is_none() {
        super::left_out("no PostgreSQL found");
    }
    server
}

/// A server of one test alone, which may end it, and whose log is flushed; `None` as with [`shared`], or when one was supplied.
pub fn own() -> Option<Server> {
    if std::env::var_os("ASYNCTASK_TEST_POSTGRES").is_some() {
        super::left_out("the server was supplied from outside and is not ours to end");
        return None;
    }
    let server = Server::find(true);
    if server.is_none() {
        super::left_out("no PostgreSQL found");
    }
    server
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// `postgres://user@host:port`, without a database.
    base: String,
    cluster: Option<Cluster>,
}

#[derive(Debug)]
struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    is_flushed: bool,
    postmaster: Mutex<Child>,
    watchdog: Mutex<Child>,
}

impl Server {
    fn find(is_flushed: bool) -> Option<Self> {
        if let Ok(base) = std::env::var("ASYNCTASK_TEST_POSTGRES") {
            return Some(Self { base: base.trim_end_matches('/').to_owned(), cluster: None });
        }
        let Some(programs) = programs() else {
            assert!(std::env::var_os("ASYNCTASK_REQUIRE_POSTGRES").is_none(), "no PostgreSQL, but one is required");
            return None;
        };
        let cluster = Cluster::start(programs, is_flushed);
        Some(Self { base: format!("postgres://postgres@127.0.0.1:{}", cluster.port), cluster: Some(cluster) })
    }

    /// The address of a database that no other test uses. Masters judge each other after a second.
    pub fn fresh_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"));
        format!("{}/{name}?grace=1", self.base)
    }

    /// Its port on the loopback.
    pub fn port(&self) -> u16 {
        let given = || self.base.rsplit_once(':')?.1.parse().ok();
        self.cluster.as_ref().map(|cluster| cluster.port).or_else(given).expect("an address with a port")
    }

    /// Runs SQL in a database, and gives what `psql` prints, a line a row.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same; an error is what was said.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let psql = self.cluster.as_ref().map_or_else(|| PathBuf::from("psql"), |cluster| cluster.programs.join("psql"));
        let address = format!("{}/{database}", self.base);
        let output = Command::new(psql)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &address, "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                child.stdin.take().expect("its input is piped").write_all(sql.as_bytes())?;
                child.wait_with_output()
            })
            .expect("psql can be started");
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        if output.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Ends all sessions of a database.
    pub fn cut(&self, address: &str) {
        let name = database(address);
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
        self.sql("postgres", &format!("{sql} AND datname = '{name}'"));
    }

    /// Stops it by this signal of `pg_ctl`'s: SIGINT is fast, SIGQUIT immediate.
    pub fn stop(&self, signal: nix::sys::signal::Signal) {
        let cluster = self.cluster.as_ref().expect("only an own server can be stopped");
        let mut postmaster = cluster.postmaster.lock().unwrap();
        let pid = nix::unistd::Pid::from_raw(postmaster.id() as i32);
        nix::sys::signal::kill(pid, signal).expect("it is our child");
        postmaster.wait().expect("it is our child");
    }

    /// Starts it again on the same port and folder.
    pub fn start(&self) {
        let cluster = self.cluster.as_ref().expect("only an own server can be started");
        *cluster.postmaster.lock().unwrap() = cluster.spawn();
        cluster.tell_watchdog();
        cluster.wait_ready();
    }
}

/// The database of an address.
pub fn database(address: &str) -> &str {
    let path = address.rsplit('/').next().unwrap_or_default();
    path.split('?').next().unwrap_or_default()
}

/// Where the server's programs are.
fn programs() -> Option<PathBuf> {
    let needed = ["initdb", "postgres", "pg_isready", "psql"];
    let has = |folder: &PathBuf| needed.iter().all(|name| folder.join(name).exists());
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(folder) = std::env::split_paths(&path).find(has) {
        return Some(folder);
    }
    // Debian keeps them out of PATH.
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).filter(has).collect();
    let number = |folder: &PathBuf| -> Option<u32> { folder.parent()?.file_name()?.to_str()?.parse().ok() };
    folders.sort_by_key(number);
    folders.pop()
}

/// The user that the server runs as, where we are root.
fn account() -> Option<nix::unistd::User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    ["postgres", "nobody"].iter().find_map(|name| nix::unistd::User::from_name(name).ok().flatten())
}

impl Cluster {
    fn start(programs: PathBuf, is_flushed: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir().expect("a temporary folder").keep();
        if let Some(account) = account() {
            nix::unistd::chown(&folder, Some(account.uid), Some(account.gid)).expect("we are root");
        }
        let made = Self::command(&programs.join("initdb"), &folder)
            .args(["-D", "db", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync"])
            .output()
            .expect("initdb can be started");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = super::broker::free_port();
        let watchdog = Command::new("sh")
            .args(["-c", "while read line; do pid=$line; done; kill -3 $pid; sleep 1; kill -9 $pid; rm -rf \"$0\""])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let placeholder = Command::new("true").spawn().expect("there is a `true`");
        let (postmaster, watchdog) = (Mutex::new(placeholder), Mutex::new(watchdog));
        let cluster = Self { programs, folder, port, is_flushed, postmaster, watchdog };
        *cluster.postmaster.lock().unwrap() = cluster.spawn();
        cluster.tell_watchdog();
        cluster.wait_ready();
        cluster
    }

    fn command(program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(account) = account() {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command
    }

    fn spawn(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log"));
        let log = log.expect("a file of ours");
        let mut command = Self::command(&self.programs.join("postgres"), &self.folder);
        command.args(["-D", "db", "-p", &self.port.to_string(), "-h", "127.0.0.1"]);
        let socket = self.folder.display().to_string();
        let flushed = if self.is_flushed { "fsync=on" } else { "fsync=off" };
        for setting in [flushed, "max_connections=400", "shared_buffers=32MB", "max_wal_size=256MB"] {
            command.args(["-c", setting]);
        }
        command.args(["-c", &format!("unix_socket_directories={socket}")]);
        command.stdout(log.try_clone().expect("a file of ours")).stderr(log);
        command.spawn().expect("the server is installed")
    }

    fn tell_watchdog(&self) {
        let line = format!("{}\n", self.postmaster.lock().unwrap().id());
        let mut watchdog = self.watchdog.lock().unwrap();
        let pipe = watchdog.stdin.as_mut().expect("its input is piped");
        pipe.write_all(line.as_bytes()).expect("the watchdog reads");
    }

    /// Waits until the server takes connections.
    fn wait_ready(&self) {
        for _ in 0..600 {
            let ready = Command::new(self.programs.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status();
            if ready.is_ok_and(|status| status.success()) {
                return;
            }
            if let Ok(Some(status)) = self.postmaster.lock().unwrap().try_wait() {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("the server ended with {status}: {log}");
            }
            pause();
        }
        panic!("the server did not answer within a minute; see {}", self.folder.display());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The watchdog does it when its pipe closes.
        let mut watchdog = self.watchdog.lock().unwrap();
        drop(watchdog.stdin.take());
        let _ = watchdog.wait();
        let _ = self.postmaster.lock().unwrap().wait();
    }
}

/// The step of a bounded poll inside this harness; tests themselves wait for events.
fn pause() {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(100));
}
