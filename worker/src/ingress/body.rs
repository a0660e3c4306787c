//! Reading a body: bounded in size and time, and copied only when it arrives in pieces.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::Refusal;

/// Nearly every webhook is smaller. What is larger needs one of [`LARGE_BODIES`].
const SMALL_BODY: usize = 64 * 1024;

/// Larger bodies in memory at once, however many connections send them: 64 MiB of bytes at 1 MiB each. A body that is being
/// put together from its pieces may take up to twice its length, and small bodies are not counted.
const LARGE_BODIES: usize = 64;

/// A sender that is refused usually reads that only after it has sent everything, and sees a broken connection when
/// nobody reads on. This is how long, and how much, is read for it.
const DRAIN_FOR: Duration = Duration::from_secs(5);
const DRAIN_BYTES: usize = 16 * 1024 * 1024;

/// Reads bodies, within limits for each and for all of them.
pub(super) struct BodyReader {
    max_bytes: usize,
    limit: Duration,
    large: Arc<Semaphore>,
}

/// A body, and its share of the memory.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    /// Held for as long as a large body is.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl BodyReader {
    pub(super) fn new(max_bytes: usize, limit: Duration) -> Self {
        Self {
            max_bytes,
            limit,
            large: Arc::new(Semaphore::new(LARGE_BODIES)),
        }
    }

    /// The whole body. After an error the rest of it may still be read.
    pub(super) async fn read(&self, body: &mut Body) -> Result<Received, Refusal> {
        timeout(self.limit, self.gather(body))
            .await
            .unwrap_or(Err(Refusal::Slow))
    }

    async fn gather(&self, body: &mut Body) -> Result<Received, Refusal> {
        // With a `Content-Length` this is it; otherwise 0.
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > self.max_bytes {
            return Err(Refusal::TooLarge);
        }
        // Room is for bytes that are here: an announcement costs a sender nothing, and would keep others out.
        let mut room = None;
        let (mut first, mut pieces) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::Malformed)?.into_data() else {
                continue;
            };
            let length = first.len() + pieces.len() + data.len();
            room = self.room_for(length, room)?;
            if first.is_empty() && pieces.is_empty() {
                first = data;
                continue;
            }
            if !first.is_empty() {
                // As large as what has arrived, not as what was announced, for the same reason.
                pieces.reserve(length);
                pieces.extend_from_slice(&std::mem::take(&mut first));
            }
            pieces.extend_from_slice(&data);
        }
        let bytes = match pieces.is_empty() {
            true => first,
            false => pieces.freeze(),
        };
        Ok(Received { bytes, room })
    }

    fn room_for(
        &self,
        length: usize,
        held: Option<OwnedSemaphorePermit>,
    ) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        match held {
            _ if length > self.max_bytes => Err(Refusal::TooLarge),
            None if length > SMALL_BODY => match self.large.clone().try_acquire_owned() {
                Ok(room) => Ok(Some(room)),
                Err(_) => Err(Refusal::Busy),
            },
            held => Ok(held),
        }
    }
}

/// Reads on and forgets what it reads.
pub(super) async fn drain(mut body: Body) {
    let draining = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // However it ends, the connection is closed or goes on by itself.
    let _ended = timeout(DRAIN_FOR, draining).await;
}
