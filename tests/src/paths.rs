//! Where programs and files are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository, with no `..` left in it.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in a folder of the repository")
        .to_path_buf()
}

/// A program of the Postgres installation under test.
pub fn pg_program(name: &str) -> PathBuf {
    let folder = std::env::var_os("ACTIONFLOW_PG_BIN")
        .map_or_else(|| repository().join(".dev/pg18/bin"), PathBuf::from);
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{} is missing: run scripts/setup, or set ACTIONFLOW_PG_BIN",
        program.display()
    );
    program
}

/// The worker binary: the one named by `ACTIONFLOW_WORKER`, else the newer of the two builds.
pub(crate) fn worker_program() -> PathBuf {
    if let Some(program) = std::env::var_os("ACTIONFLOW_WORKER") {
        return PathBuf::from(program);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), PathBuf::from);
    ["release", "debug"]
        .map(|profile| target.join(profile).join("actionflow-worker"))
        .into_iter()
        .filter(|program| program.exists())
        .max_by_key(|program| {
            program
                .metadata()
                .and_then(|file| file.modified())
                .expect("the binary has a time of modification")
        })
        .expect("no worker binary: run cargo build -p actionflow-worker, or set ACTIONFLOW_WORKER")
}

/// A command that runs as a user whom Postgres accepts: it refuses to run as root.
/// From `/`, because that user may not be allowed to enter the current folder.
pub(crate) fn as_server_user(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}

/// Makes `folder`, writable for the user of [`as_server_user`].
pub(crate) fn server_folder(folder: &Path) {
    std::fs::create_dir_all(folder).expect("the folder of a cluster can be made");
    if is_root() {
        run(Command::new("chown").arg("postgres:").arg(folder));
    }
}

/// Runs a command to its end and returns its output.
///
/// # Panics
/// When the command fails, with all that it said.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends a signal, such as `KILL`, to a process.
pub fn send_signal(name: &str, process: &str) {
    run(Command::new("kill").args([&format!("-{name}"), process]));
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
