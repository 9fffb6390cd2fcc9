use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::Patience;

/// Bytes that tell which version of HTTP a client speaks. Until they are there no other timer runs.
const TELLING: usize = 24;

/// A connection whose writes fail when the other side takes nothing for too long. A client that stops reading would
/// otherwise hold its answer, and what the answer holds, for as long as it likes. A slow one that still reads is
/// served: timeouts measure progress, not length. Its reads fail when the very beginning takes too long.
#[derive(Debug)]
pub(super) struct Progress<T> {
    inner: T,
    /// Runs until the client has said enough to be listened to, or was answered.
    beginning: Option<Beginning>,
    patience: Duration,
    /// Runs while a write waits.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

#[derive(Debug)]
struct Beginning {
    timer: Pin<Box<Sleep>>,
    received: usize,
}

impl<T> Progress<T> {
    pub(super) fn new(inner: T, patience: Patience) -> Self {
        let beginning = Some(Beginning { timer: Box::pin(sleep(patience.head)), received: 0 });
        let timer = Box::pin(sleep(patience.send));
        Self { inner, beginning, patience: patience.send, timer, waiting: false }
    }

    /// What becomes of an attempt to write.
    fn judge<R>(&mut self, context: &mut Context<'_>, attempt: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        self.beginning = None;
        if attempt.is_ready() {
            self.waiting = false;
            return attempt;
        }
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.patience);
        }
        ready!(self.timer.as_mut().poll(context));
        let seconds = self.patience.as_secs();
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the client took nothing of its answer for {seconds} s"),
        )))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Progress<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let attempt = Pin::new(&mut self.inner).poll_read(context, buffer);
        let Some(beginning) = &mut self.beginning else { return attempt };
        if attempt.is_ready() {
            beginning.received += buffer.filled().len() - before;
            if beginning.received >= TELLING {
                self.beginning = None;
            }
            return attempt;
        }
        ready!(beginning.timer.as_mut().poll(context));
        let why = "the client did not begin to speak HTTP in time";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Progress<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.judge(context, attempt)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.judge(context, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn patience() -> Patience {
        Patience::default().head(Duration::from_secs(3)).send(Duration::from_secs(10))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_begin_is_given_up() {
        for words in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
            let (mut far, near) = duplex(100);
            far.write_all(words).await.unwrap();
            let mut near = Progress::new(near, patience());
            let begun = Instant::now();
            let error = near.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!((error.kind(), begun.elapsed().as_secs()), (io::ErrorKind::TimedOut, 3));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_begun_or_was_answered_may_rest() {
        for (words, answered) in [(&[b'x'; TELLING][..], false), (b"GET / HTTP/1.0\r\n\r\n", true)] {
            let (mut far, near) = duplex(100);
            far.write_all(words).await.unwrap();
            let mut near = Progress::new(near, patience());
            near.read_exact(&mut vec![0; words.len()]).await.unwrap();
            if answered {
                near.write_all(b"x").await.unwrap();
            }
            let rest = tokio::time::timeout(Duration::from_secs(100), near.read_u8()).await;
            assert!(rest.is_err(), "the timers of HTTP are what counts from here on");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_is_given_up() {
        let (near, _far) = duplex(16);
        let mut near = Progress::new(near, patience());
        let begun = Instant::now();
        let error = near.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_merely_slow_is_served() {
        let (near, mut far) = duplex(16);
        let mut near = Progress::new(near, patience());
        let reader = tokio::spawn(async move {
            let mut received = 0;
            while received < 160 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                received += far.read(&mut [0; 16]).await.unwrap();
            }
            received
        });
        near.write_all(&[0; 160]).await.unwrap();
        drop(near);
        assert_eq!(reader.await.unwrap(), 160);
    }
}
