//! The thread of Enrich. A request goes from connection to connection and needs a few microseconds in between; handed from one
//! thread to the next it would wait for a processor at each step, behind deliveries too.

use std::future::Future;
use std::io;
use std::thread;

use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::JoinError;

/// How work on a thread of its own has ended.
pub(crate) type Ended = oneshot::Receiver<Result<(), JoinError>>;

/// Runs work, and all that it spawns, on one thread of its own. What takes its time there belongs into [`aside`].
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn on_own_thread(work: impl Future<Output = ()> + Send + 'static) -> io::Result<Ended> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (ended, end) = oneshot::channel();
    let run = move || {
        let result = runtime.block_on(async { tokio::spawn(work).await });
        // A name resolution that hangs must not delay the end.
        runtime.shutdown_background();
        // Nobody asks when the worker has failed before.
        let _ = ended.send(result);
    };
    thread::Builder::new()
        .name("enrich".to_owned())
        .spawn(run)?;
    Ok(end)
}

/// Computes for longer than other requests should wait for. A panic goes on in the caller.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_runs_on_one_thread_and_what_takes_long_elsewhere() {
        let work = async {
            let here = thread::current().id();
            let spawned = tokio::spawn(async { thread::current().id() });
            assert_eq!(spawned.await.unwrap(), here);
            assert_ne!(aside(|| thread::current().id()).await, here);
        };
        let ended = on_own_thread(work).unwrap().blocking_recv().unwrap();
        ended.unwrap();
    }

    #[test]
    fn a_panic_aside_is_one_of_whoever_asked() {
        let work = async { aside(|| panic!("a defect")).await };
        let ended = on_own_thread(work).unwrap().blocking_recv().unwrap();
        assert!(ended.unwrap_err().is_panic());
    }
}
