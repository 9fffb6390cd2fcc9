use std::time::Duration;

use bytes::Bytes;

use super::MAX_RUN;

/// How long a sender in the middle of a payload may send nothing. A live connection whose sender stalls would
/// otherwise hold what its request holds for ever.
pub(crate) const FRAME_PATIENCE: Duration = Duration::from_secs(60);

/// A run of bytes as messages carry it: whole, or cut where it is long. The bytes are shared, not copied.
pub(crate) fn pieces(mut bytes: Bytes) -> impl Iterator<Item = Bytes> + Send {
    std::iter::from_fn(move || {
        let piece = bytes.split_to(bytes.len().min(MAX_RUN));
        (!piece.is_empty()).then_some(piece)
    })
}

/// Awaits the next message of a sender for so long as it may send nothing.
///
/// # Errors
/// What to tell the sender, or whoever waits for its bytes.
pub(crate) async fn within<T>(
    patience: Duration,
    message: impl Future<Output = Result<Option<T>, tonic::Status>>,
) -> Result<Option<T>, String> {
    match tokio::time::timeout(patience, message).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(status)) => Err(format!("the sender broke off: {}", status.message())),
        Err(_) => Err(format!("the sender sent nothing for {} s", patience.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_cut_and_nothing_is_lost() {
        let lengths = |length| pieces(vec![1; length].into()).map(|piece| piece.len()).collect::<Vec<_>>();
        assert_eq!(lengths(0), [0; 0]);
        assert_eq!(lengths(MAX_RUN), [MAX_RUN]);
        assert_eq!(lengths(2 * MAX_RUN + 1), [MAX_RUN, MAX_RUN, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_sender_is_given_up() {
        let silent = std::future::pending::<Result<Option<()>, tonic::Status>>();
        assert_eq!(within(FRAME_PATIENCE, silent).await, Err("the sender sent nothing for 60 s".into()));
    }
}
