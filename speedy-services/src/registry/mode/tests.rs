mod interleaved;

use super::*;
use speedy_core::meta::MemoryMeta;

#[tokio::test(start_paused = true)]
async fn one_switches_and_all_follow() {
    let meta: Arc<dyn MetaStore> = Arc::new(MemoryMeta::new());
    let (here, there) = (Mode::new(Arc::clone(&meta)), Arc::new(Mode::new(Arc::clone(&meta))));
    let follower = Arc::clone(&there);
    let following = tokio::spawn(async move { follower.follow().await });
    here.set(Some("the disks are exchanged".into())).await.unwrap();
    assert_eq!(here.known().unwrap().reason, "the disks are exchanged");
    assert_eq!(there.known(), None);
    tokio::time::sleep(LOOK_EVERY + Duration::from_millis(1)).await;
    assert_eq!(there.known(), here.known());
    assert_eq!(Mode::new(Arc::clone(&meta)).look().await.unwrap(), here.known(), "one that starts later");
    here.set(None).await.unwrap();
    tokio::time::sleep(LOOK_EVERY + Duration::from_millis(1)).await;
    assert_eq!((here.known(), there.known()), (None, None));
    following.abort();
}

#[tokio::test]
async fn a_value_that_cannot_be_read_counts() {
    let meta: Arc<dyn MetaStore> = Arc::new(MemoryMeta::new());
    let garbage = Write::Put(KEY, Bytes::from_static(&[0xff; 3]));
    assert!(meta.transact(Transaction::new().write(garbage)).await.unwrap().is_committed());
    assert!(Mode::new(meta).look().await.unwrap().is_some());
}
