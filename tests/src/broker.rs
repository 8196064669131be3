//! A broker as a child process: started on free ports in a directory of its own, stopped, killed and started again.
//!
//! A [`Broker`] ends only the process it started, and when it is dropped it fails its test if the log has a warning or an
//! error that the test did not allow.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use tempfile::TempDir;

use crate::http::{self, Metrics};
use crate::wait::{self, HANG};
use crate::{binary, logs, ports};

/// Brokers running at once in one test process: each has a few pinned threads and registers memory that counts against
/// the user's memlock limit.
const RUNNING_MAX: usize = 2;

/// Ports kept for one broker: the admin address and up to this many cores less one.
const PORTS_EACH: u16 = 9;

/// Starts tried when another process is faster in taking a port.
const PORT_TRIES_MAX: usize = 5;

/// The status that says so.
pub const PORT_IN_USE: i32 = 12;

/// How listening ports are laid out over the cores.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PortMode {
    /// One port per core.
    PerCore,
    /// One port for all.
    Single,
}

impl PortMode {
    /// Both, for tests that must hold in either.
    pub const ALL: [PortMode; 2] = [PortMode::PerCore, PortMode::Single];

    fn name(self) -> &'static str {
        match self {
            PortMode::PerCore => "per-core",
            PortMode::Single => "single",
        }
    }
}

/// How a broker is started. The defaults are small: two cores, little memory, little WAL, no spinning.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    cores: u16,
    port_mode: PortMode,
    node_id: u32,
    settings: Vec<(String, String)>,
    environment: Vec<(&'static str, PathBuf)>,
    allowed: Vec<String>,
    is_one_of_several: bool,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        let settings = [
            ("memory_bytes", "64MiB"),
            ("wal_file_bytes", "4MiB"),
            ("wal_files_max", "4"),
            ("reserve_bytes", "16MiB"),
            ("spin_us", "0"),
        ];
        BrokerOptions {
            cores: 2,
            port_mode: PortMode::PerCore,
            node_id: 1,
            settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            environment: Vec::new(),
            allowed: Vec::new(),
            is_one_of_several: false,
        }
    }
}

impl BrokerOptions {
    /// The defaults.
    pub fn new() -> BrokerOptions {
        BrokerOptions::default()
    }

    /// So many cores, sharing CPUs if there are fewer.
    #[must_use]
    pub fn cores(mut self, cores: u16) -> Self {
        assert!(cores < PORTS_EACH, "more cores than ports are kept for a broker");
        self.cores = cores;
        self
    }

    /// Another layout of the ports.
    #[must_use]
    pub fn port_mode(mut self, port_mode: PortMode) -> Self {
        self.port_mode = port_mode;
        self
    }

    /// Another node.
    #[must_use]
    pub fn node_id(mut self, node_id: u32) -> Self {
        self.node_id = node_id;
        self
    }

    /// A configuration key, as in `heddle.toml`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// An environment variable that names a file.
    #[must_use]
    pub fn environment(mut self, name: &'static str, file: &Path) -> Self {
        self.environment.push((name, file.to_owned()));
        self
    }

    /// Lets lines with this text be in the log at level WARN or ERROR.
    #[must_use]
    pub fn allow_log(mut self, text: &str) -> Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// One node of a cluster of a test that runs no other brokers: it does not wait for its turn, which might never come.
    #[must_use]
    pub fn one_of_several(mut self) -> Self {
        self.is_one_of_several = true;
        self
    }

    fn command(&self, data_dir: &Path, first_port: u16) -> Command {
        let mut command = Command::new(binary::heddle());
        command.arg("serve");
        let own = [
            ("data_dir", data_dir.display().to_string()),
            ("listen", address(first_port + 1).to_string()),
            ("admin", address(first_port).to_string()),
            ("cores", self.cores.to_string()),
            ("port_mode", self.port_mode.name().to_owned()),
            ("node_id", self.node_id.to_string()),
        ];
        let is_set = |key: &str| self.settings.iter().any(|(known, _)| known == key);
        let own = own.into_iter().filter(|(key, _)| !is_set(key));
        let own = own.map(|(key, value)| (key.to_owned(), value));
        for (key, value) in own.chain(self.settings.iter().cloned()) {
            command.arg(format!("--{}", key.replace('_', "-"))).arg(value);
        }
        // What the caller's shell says about some broker of theirs is not for this one.
        for variable in ["HEDDLE_CONFIG", "HEDDLE_DATA_DIR", "HEDDLE_LISTEN", "HEDDLE_SERVER", "HEDDLE_LOG"] {
            command.env_remove(variable);
        }
        command.envs(self.environment.iter().map(|(name, file)| (name, file)));
        command
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A place for a broker: a data directory, a log file, and ports that stay the same over restarts.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
    first_port: u16,
}

impl Default for Place {
    fn default() -> Self {
        Place::new()
    }
}

impl Place {
    /// A new, empty place.
    pub fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("heddle-test-").tempdir().expect("a temporary folder");
        Place { dir, first_port: ports::free_run(PORTS_EACH) }
    }

    /// The data directory, which does not exist before the first start.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A folder for a test's own files.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// The address of the only core or of core 0.
    pub fn address(&self) -> SocketAddr {
        address(self.first_port + 1)
    }

    /// The admin address.
    pub fn admin(&self) -> SocketAddr {
        address(self.first_port)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("stderr.log")
    }

    /// Starts a broker that must say something and go on, and ends it then.
    ///
    /// # Panics
    /// If it ends before it has said all of these words, or does not say them.
    pub fn serve_until_it_says(&self, data_dir: &Path, options: &BrokerOptions, words: &[&str]) {
        let log = self.log_file();
        let mut child = options
            .command(data_dir, self.first_port)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log file can be made"))
            .spawn()
            .expect("the broker starts");
        let deadline = Instant::now() + HANG;
        let said = loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let ended = child.try_wait().expect("the child can be waited for");
            if words.iter().all(|word| said.contains(word)) || ended.is_some() || Instant::now() > deadline {
                break said;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        let status = end_child(&mut child);
        for word in words {
            assert!(said.contains(word), "{word:?} is not in what it said ({status}):\n{said}");
        }
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it ended by itself with {status}:\n{said}");
    }

    /// Starts a broker that must end by itself, and returns how it did.
    pub fn serve_to_the_end(&self, options: &BrokerOptions) -> Ended {
        self.serve_to_the_end_in(&self.data_dir(), options)
    }

    /// As [`Place::serve_to_the_end`], with another data directory.
    ///
    /// # Panics
    /// If the broker does not end.
    pub fn serve_to_the_end_in(&self, data_dir: &Path, options: &BrokerOptions) -> Ended {
        let errors = tempfile::tempfile().expect("a temporary file");
        let mut child = options
            .command(data_dir, self.first_port)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.try_clone().expect("the file can be shared"))
            .spawn()
            .expect("the broker starts");
        let status = wait_for_end(&mut child);
        let errors = read_all(errors);
        let Some(status) = status else {
            end_child(&mut child);
            panic!("the broker serves, but was expected to refuse; it says:\n{errors}");
        };
        Ended { status: status.code(), errors }
    }
}

fn read_all(mut file: File) -> String {
    use std::io::{Read, Seek};
    let mut text = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut text)).expect("a temporary file can be read");
    String::from_utf8_lossy(&text).into_owned()
}

/// How a broker ended that was not to go on.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit status; `None` after a signal.
    pub status: Option<i32>,
    /// What it said on standard error.
    pub errors: String,
}

impl Ended {
    /// Checks the exit status, and that what was said contains each of `words`.
    ///
    /// # Panics
    /// If not.
    pub fn expect(&self, status: i32, words: &[&str]) {
        let Ended { status: found, errors } = self;
        assert_eq!(*found, Some(status), "it said:\n{errors}");
        for word in words {
            assert!(errors.contains(word), "{word:?} is not in what it said:\n{errors}");
        }
        assert!(!errors.contains("panicked at"), "it panicked:\n{errors}");
    }
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    place: Place,
    options: BrokerOptions,
    child: Option<Child>,
    allowed: Vec<String>,
    _permit: Option<Permit>,
}

impl Broker {
    /// Starts a broker in a new place and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start(options: BrokerOptions) -> Broker {
        for _ in 1..PORT_TRIES_MAX {
            match Broker::try_start_in(Place::new(), options.clone()) {
                Ok(broker) => return broker,
                Err(Ended { status: Some(PORT_IN_USE), .. }) => {}
                Err(ended) => panic!("the broker ended with {:?}:\n{}", ended.status, ended.errors),
            }
        }
        Broker::start_in(Place::new(), options)
    }

    /// Starts a broker in a place and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_in(place: Place, options: BrokerOptions) -> Broker {
        Broker::try_start_in(place, options)
            .unwrap_or_else(|ended| panic!("the broker ended with {:?}:\n{}", ended.status, ended.errors))
    }

    /// Starts a broker that may refuse.
    ///
    /// # Errors
    /// How it ended instead of serving.
    pub fn try_start_in(place: Place, options: BrokerOptions) -> Result<Broker, Ended> {
        binary::heddle();
        let permit = (!options.is_one_of_several).then(Permit::take);
        let allowed = options.allowed.clone();
        let mut broker = Broker { place, options, child: None, allowed, _permit: permit };
        match broker.spawn() {
            Ok(()) => Ok(broker),
            Err(status) => {
                let errors = broker.log();
                broker.allowed.push(String::new());
                Err(Ended { status: status.code(), errors })
            }
        }
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// `host:port` for clients to begin with.
    pub fn bootstrap(&self) -> String {
        self.address().to_string()
    }

    /// The address of the only port, or of core 0.
    pub fn address(&self) -> SocketAddr {
        self.place.address()
    }

    /// The address of a core of a broker with per-core ports.
    pub fn address_of_core(&self, core: u16) -> SocketAddr {
        assert!(self.options.port_mode == PortMode::PerCore && core < self.options.cores);
        address(self.place.address().port() + core)
    }

    /// How many cores it has.
    pub fn core_count(&self) -> u16 {
        self.options.cores
    }

    /// A look at its metrics.
    ///
    /// # Panics
    /// If the admin address does not answer.
    pub fn metrics(&self) -> Metrics {
        let answer = http::get(self.place.admin(), "/metrics").expect("the admin address answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
        Metrics::new(answer.body)
    }

    /// Memory it really uses, in bytes.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("a running process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the status has VmRSS");
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("VmRSS is a number");
        kib * 1024
    }

    /// How many files and sockets it has open.
    ///
    /// # Panics
    /// If it does not run.
    pub fn open_file_count(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(path).expect("a running process has open files").count()
    }

    /// Stops it without ending it (SIGSTOP), as a machine that hangs.
    pub fn suspend(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on after [`Broker::suspend`].
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.pid()).expect("process ids fit");
        // SAFETY: the child was not waited for yet, so the id is still its own.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "{}", io::Error::last_os_error());
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("the broker runs").id()
    }

    /// Checks that it still runs and answers.
    ///
    /// # Panics
    /// If not, with the end of its log.
    pub fn assert_alive(&mut self) {
        let child = self.child.as_mut().expect("the broker runs");
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            panic!("the broker ended with {status}; its log ends:\n{}", tail(&self.log()));
        }
        let answer = http::get(self.place.admin(), "/health/live").expect("the admin address answers");
        assert_eq!((answer.status, answer.body.as_str()), (200, "live\n"));
    }

    /// Everything it has logged, of all starts in this place.
    pub fn log(&self) -> String {
        std::fs::read(self.place.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Lets lines with this text be in the log at level WARN or ERROR.
    pub fn allow_log(&mut self, text: &str) {
        self.allowed.push(text.to_owned());
    }

    /// Kills it (SIGKILL).
    ///
    /// # Panics
    /// If it had ended by itself.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the broker runs");
        let status = end_child(&mut child);
        assert_eq!(
            status.signal(),
            Some(libc::SIGKILL),
            "it ended by itself with {status}: {}",
            tail(&self.log())
        );
    }

    /// Asks it to stop (SIGTERM) and expects it to do so with status 0.
    ///
    /// # Panics
    /// If it does not.
    pub fn terminate(&mut self) {
        self.stop_by(libc::SIGTERM);
    }

    /// As [`Broker::terminate`], by another signal.
    ///
    /// # Panics
    /// If it does not end with status 0.
    pub fn stop_by(&mut self, signal: libc::c_int) {
        self.signal(signal);
        let mut child = self.child.take().expect("the broker runs");
        let Some(status) = wait_for_end(&mut child) else {
            end_child(&mut child);
            panic!("the broker did not stop within {HANG:?}; its log ends:\n{}", tail(&self.log()));
        };
        assert_eq!(status.code(), Some(0), "{status}; its log ends:\n{}", tail(&self.log()));
    }

    /// Starts it again as before, after it was stopped or killed.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn restart(&mut self) {
        self.restart_with(|options| options);
    }

    /// Starts it again with other options, on the same data and ports.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn restart_with(&mut self, change: impl FnOnce(BrokerOptions) -> BrokerOptions) {
        assert!(self.child.is_none(), "it still runs");
        self.options = change(self.options.clone());
        self.allowed.extend(self.options.allowed.iter().cloned());
        if let Err(status) = self.spawn() {
            panic!("the broker ended with {status}; its log ends:\n{}", tail(&self.log()));
        }
    }

    fn spawn(&mut self) -> Result<(), ExitStatus> {
        let log = OpenOptions::new().create(true).append(true).open(self.place.log_file());
        let child = self
            .options
            .command(&self.place.data_dir(), self.place.first_port)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file can be made"))
            .spawn()
            .expect("the broker starts");
        self.child = Some(child);
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<(), ExitStatus> {
        let admin = self.place.admin();
        let child = self.child.as_mut().expect("it was just started");
        let ended = wait::until("the broker to be ready", || {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                return Some(Some(status));
            }
            let answer = http::get(admin, "/health/ready").ok()?;
            (answer.status == 200).then_some(None)
        });
        match ended {
            None => Ok(()),
            Some(status) => {
                self.child = None;
                Err(status)
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end_child(child);
        }
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("--- the broker's log ends:\n{}", tail(&log));
            return;
        }
        let unexpected = logs::unexpected(&log, &self.allowed);
        assert!(unexpected.is_empty(), "the broker logged what no test expects:\n{}", unexpected.join("\n"));
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn end_child(child: &mut Child) -> ExitStatus {
    // Fails only when the child has ended already.
    let _ = child.kill();
    child.wait().expect("a child can be waited for")
}

fn wait_for_end(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + HANG;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    None
}

/// One of the places for running brokers.
#[derive(Debug)]
struct Permit;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Permit {
    fn take() -> Permit {
        let (running, freed) = &RUNNING;
        let running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = freed
            .wait_while(running, |running| *running >= RUNNING_MAX)
            .unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Permit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (running, freed) = &RUNNING;
        *running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        freed.notify_one();
    }
}
