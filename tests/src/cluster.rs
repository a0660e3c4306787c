//! A private Postgres server.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::paths::{as_server_user, pg_program, repository, run, server_folder};

/// The database that every test's own database is a copy of.
pub(crate) const TEMPLATE: &str = "actionflow_template";

/// Starts the server, waits until its standard input is closed (which happens
/// however the test process ends), and takes everything away again.
const GUARD: &str = r#"
"$1" start -D "$2/data" -l "$2/log" -w -t 60 >/dev/null || { cat "$2/log"; exit 1; }
echo started
cat >/dev/null
"$1" stop -D "$2/data" -m immediate >/dev/null
rm -rf "$2"
"#;

/// A running server. Tests use one of its databases, not the server itself.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    /// Dropping it (or dying) closes the guard's standard input, which ends the server.
    guard: Mutex<Child>,
}

impl Cluster {
    /// The cluster that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["shared_preload_libraries = 'actionflow'"]))
    }

    /// A cluster of one's own, with the extension preloaded.
    pub fn own() -> Self {
        Self::start(&["shared_preload_libraries = 'actionflow'"])
    }

    /// A cluster of one's own, with these lines added to its configuration.
    pub fn start(settings: &[&str]) -> Self {
        let folder = new_folder();
        let data = folder.join("data");
        run(as_server_user(pg_program("initdb"))
            .args([
                "--no-sync",
                "--no-locale",
                "--encoding=UTF8",
                "--auth=trust",
                "--username=postgres",
                "-D",
            ])
            .arg(&data));
        let port = free_port();
        configure(&data, port, settings);
        let guard = start_guarded(&folder);
        let cluster = Self {
            folder,
            port,
            guard: Mutex::new(guard),
        };
        cluster.sql("postgres", &format!("create database {TEMPLATE}"));
        cluster.sql(TEMPLATE, "create extension actionflow");
        cluster
    }

    /// A hot standby of this cluster, streaming from it.
    pub fn standby(&self) -> Self {
        let folder = new_folder();
        let data = folder.join("data");
        run(as_server_user(pg_program("pg_basebackup"))
            .args([
                "--checkpoint=fast",
                "--write-recovery-conf",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .arg("-d")
            .arg(self.url("postgres"))
            .stdin(Stdio::null()));
        let port = free_port();
        append_configuration(&data, &format!("port = {port}\n"));
        let guard = start_guarded(&folder);
        Self {
            folder,
            port,
            guard: Mutex::new(guard),
        }
    }

    /// Makes a standby a server of its own.
    pub fn promote(&self) {
        run(as_server_user(pg_program("pg_ctl"))
            .args(["promote", "-w", "-t", "60", "-D"])
            .arg(self.folder.join("data"))
            .stdin(Stdio::null()));
    }

    /// Stops the server without a checkpoint, as a crash does.
    pub fn stop(&self) {
        run(as_server_user(pg_program("pg_ctl"))
            .args(["stop", "-w", "-t", "60", "-m", "immediate", "-D"])
            .arg(self.folder.join("data"))
            .stdin(Stdio::null()));
    }

    /// Stops the server without a checkpoint, and starts it again.
    pub fn restart_immediately(&self) {
        run(as_server_user(pg_program("pg_ctl"))
            .args(["restart", "-w", "-t", "60", "-m", "immediate", "-D"])
            .arg(self.folder.join("data"))
            .arg("-l")
            .arg(self.folder.join("log"))
            .stdin(Stdio::null()));
    }

    /// The URL of one of its databases, for its superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.join("log")).expect("the server log can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs SQL through psql: it needs no runtime, so it also works while a test is torn down.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        run(&mut self.psql(database, sql))
    }

    /// The command behind [`Cluster::sql`].
    pub(crate) fn psql(&self, database: &str, sql: &str) -> Command {
        let mut command = Command::new(pg_program("psql"));
        command
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                sql,
                "-d",
            ])
            .arg(self.url(database))
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(guard) = self.guard.get_mut() {
            drop(guard.stdin.take());
            // Its exit status says nothing that a test could act on.
            let _ = guard.wait();
        }
    }
}

fn clusters_folder() -> PathBuf {
    repository().join(".dev/e2e")
}

/// An empty folder for one more cluster of this process.
fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = clusters_folder().join(format!("cluster-{}-{number}", std::process::id()));
    sweep();
    // Its owner also has to remove what lies in it.
    server_folder(&clusters_folder());
    server_folder(&folder);
    folder
}

fn configure(data: &Path, port: u16, settings: &[&str]) {
    let mut lines = vec![
        "listen_addresses = '127.0.0.1'".to_owned(),
        // A socket's path may be too long below a deep folder; TCP has no such limit.
        "unix_socket_directories = ''".to_owned(),
        format!("port = {port}"),
        "max_connections = 200".to_owned(),
        // These clusters meet crashes of the server, never of the machine.
        "fsync = off".to_owned(),
        // Tables without statistics look dear, and compiling their queries takes longer than the tests.
        "jit = off".to_owned(),
        "synchronous_commit = on".to_owned(),
        "log_line_prefix = '%m [%p] db=%d app=%a '".to_owned(),
    ];
    lines.extend(settings.iter().map(|&line| line.to_owned()));
    append_configuration(data, &(lines.join("\n") + "\n"));
}

/// Later lines go over earlier ones. Written by a process of the server's user, who owns the folder.
fn append_configuration(data: &Path, lines: &str) {
    let file = data.join("postgresql.auto.conf");
    run(as_server_user("sh")
        .args(["-c", "printf '%s' \"$1\" >>\"$2\"", "sh", lines])
        .arg(file));
}

fn start_guarded(folder: &Path) -> Child {
    use std::io::Read as _;
    use std::os::unix::process::CommandExt as _;
    let mut guard = as_server_user("sh")
        .args(["-c", GUARD, "guard"])
        .arg(pg_program("pg_ctl"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // What interrupts or kills the tests as a group must leave the guard alive to tidy up.
        .process_group(0)
        .spawn()
        .expect("a shell can be started");
    let mut said = [0; 4096];
    let output = guard.stdout.as_mut().expect("the guard's output is a pipe");
    let length = output.read(&mut said).expect("the guard can be heard");
    let said = String::from_utf8_lossy(&said[..length]).into_owned();
    assert!(
        said.starts_with("started"),
        "the server does not start:\n{said}"
    );
    guard
}

/// A port that nobody listens on. The server has no port 0, so this is the
/// closest thing: the system hands out such ports in turn, not the same one twice in a row.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port is free")
        .port()
}

/// Ends the clusters of test processes that no longer run.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(clusters_folder()) else {
        return;
    };
    for folder in entries.flatten().map(|entry| entry.path()) {
        let owner = folder
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix("cluster-"))
            .and_then(|rest| rest.split('-').next());
        let Some(owner) = owner else { continue };
        if Path::new("/proc").join(owner).exists() {
            continue;
        }
        // Either may have happened already, or be happening through the guard.
        let _ = as_server_user(pg_program("pg_ctl"))
            .args(["stop", "-m", "immediate", "-D"])
            .arg(folder.join("data"))
            .output();
        let _ = std::fs::remove_dir_all(&folder);
    }
}
