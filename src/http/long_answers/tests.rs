use super::*;

use http_body_util::BodyExt;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Nothing here takes nearly as long.
const WATCHDOG: Duration = Duration::from_secs(20);

async fn watched<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(WATCHDOG, test).await.unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    watched(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A client and both ends of its connection.
struct Caller {
    client: Client,
    _server: Arc<TcpStream>,
    peer: TcpStream,
}

impl Caller {
    async fn new() -> Caller {
        let (client, server, peer) = Client::connected().await;
        Caller {
            client,
            _server: server,
            peer,
        }
    }
}

fn pool(chunks: usize) -> Arc<Pool> {
    Arc::new(Pool::new(chunks, WATCHDOG))
}

/// Builds an answer of this length.
async fn fill(pool: &Pool, bytes: usize) -> Result<LongBody, NoAnswer> {
    let caller = Caller::new().await;
    let build = move |page: &mut Page| {
        for some in vec![b'x'; bytes].chunks(1000) {
            page.raw(some);
            page.done()?;
        }
        Ok::<(), NoAnswer>(())
    };
    let built = watched(pool.build(&caller.client, build)).await;
    built.map(|((), body)| body)
}

/// What a build learns at the end of each page.
type Pages = mpsc::UnboundedReceiver<Result<(), NoAnswer>>;

/// A build that goes on until it is interrupted.
fn endless(pool: &Arc<Pool>, caller: &Caller) -> (JoinHandle<Result<(), NoAnswer>>, Pages) {
    let (pages, written) = mpsc::unbounded_channel();
    let (pool, client) = (pool.clone(), caller.client.clone());
    let task = tokio::spawn(async move {
        let build = move |page: &mut Page| -> Result<(), NoAnswer> {
            loop {
                let page = page.done();
                let _ = pages.send(page);
                page?;
                std::thread::yield_now();
            }
        };
        pool.build(&client, build).await.map(|((), _)| ())
    });
    (task, written)
}

/// The reason for which a build has ended.
async fn end_of(written: &mut Pages) -> NoAnswer {
    watched(async {
        loop {
            if let Some(Err(reason)) = written.recv().await {
                return reason;
            }
        }
    })
    .await
}

#[tokio::test]
async fn memory_is_freed_chunk_by_chunk_as_it_is_sent() {
    let pool = pool(10);
    let mut body = fill(&pool, 2 * CHUNK + 5).await.unwrap();
    assert_eq!((pool.held(), pool.building()), (3, 0));
    assert_eq!(body.size_hint().exact(), Some(2 * CHUNK as u64 + 5));
    let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let half_sent = chunk.slice(CHUNK / 2..);
    drop(chunk);
    assert_eq!(pool.held(), 3, "a part of it is still to be sent");
    drop(half_sent);
    assert_eq!(pool.held(), 2);
    assert_eq!(body.size_hint().exact(), Some(CHUNK as u64 + 5));
    drop(body);
    assert_eq!(pool.held(), 0);
}

#[tokio::test]
async fn bytes_arrive_as_they_were_written() {
    let caller = Caller::new().await;
    let pool = pool(10);
    let numbers: Vec<u32> = (0..50_000).collect();
    let expected = serde_json::to_vec(&numbers).unwrap();
    let build = move |page: &mut Page| {
        page.json(&numbers);
        Ok::<(), NoAnswer>(())
    };
    let ((), body) = watched(pool.build(&caller.client, build)).await.unwrap();
    assert_eq!(body.collect().await.unwrap().to_bytes(), expected);
    let nothing = fill(&pool, 0).await.unwrap();
    assert!(nothing.is_end_stream());
}

#[tokio::test]
async fn without_room_an_answer_gives_up_and_frees_what_it_has() {
    let pool = Arc::new(Pool::new(3, Duration::from_millis(50)));
    let unread = fill(&pool, 2 * CHUNK).await.unwrap();
    assert_eq!(
        fill(&pool, 2 * CHUNK).await.unwrap_err(),
        NoAnswer::Busy,
        "one chunk is left"
    );
    assert_eq!((pool.held(), pool.building()), (2, 0));
    drop(unread);
    fill(&pool, 2 * CHUNK).await.unwrap();
}

#[tokio::test]
async fn an_answer_goes_on_when_another_was_sent() {
    let pool = pool(3);
    let unread = fill(&pool, 2 * CHUNK).await.unwrap();
    let sent = async {
        until(|| pool.held() == 3).await;
        drop(unread);
    };
    let (built, ()) = tokio::join!(fill(&pool, 3 * CHUNK), sent);
    assert_eq!(built.unwrap().size_hint().exact(), Some(3 * CHUNK as u64));
}

#[tokio::test]
async fn answers_that_each_need_most_of_the_memory_are_all_built() {
    let pool = pool(4);
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let body = fill(&pool, 3 * CHUNK).await.unwrap();
                assert!(pool.building() <= 1);
                body.collect().await.unwrap().to_bytes().len()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(watched(task).await.unwrap(), 3 * CHUNK);
    }
    assert_eq!((pool.held(), pool.building()), (0, 0));
}

#[tokio::test]
async fn an_answer_that_can_never_fit_is_refused() {
    let pool = pool(3);
    fill(&pool, 3 * CHUNK).await.unwrap();
    let refused = fill(&pool, 3 * CHUNK + 1).await.unwrap_err();
    assert_eq!(refused, NoAnswer::TooLarge);
    assert_eq!((pool.held(), pool.building()), (0, 0));
}

#[tokio::test]
async fn one_that_waits_for_its_turn_gives_up_in_time() {
    let pool = Arc::new(Pool::new(3, Duration::from_millis(50)));
    let caller = Caller::new().await;
    let (task, mut written) = endless(&pool, &caller);
    watched(written.recv()).await.unwrap().unwrap();
    assert_eq!(fill(&pool, 1).await.unwrap_err(), NoAnswer::Busy);
    task.abort();
    assert_eq!(end_of(&mut written).await, NoAnswer::Abandoned);
}

#[tokio::test]
async fn the_pools_do_not_wait_for_each_other() {
    let answers = LongAnswers {
        registry: Pool::new(1, WATCHDOG),
        topic: Pool::new(1, WATCHDOG),
    };
    let caller = Caller::new().await;
    let (begun, is_begun) = tokio::sync::oneshot::channel();
    let (end, is_over) = std::sync::mpsc::channel::<()>();
    let registry = answers.build(Scope::Registry, &caller.client, move |page| {
        page.raw(b"registry");
        begun.send(()).unwrap();
        is_over.recv().unwrap();
        Ok::<(), NoAnswer>(())
    });
    let topic = async {
        is_begun.await.unwrap();
        let build = |page: &mut Page| {
            page.raw(b"topic");
            Ok::<(), NoAnswer>(())
        };
        let topic = answers.build(Scope::Topic, &caller.client, build).await;
        assert_eq!((answers.building(), answers.bytes()), (1, 2 * CHUNK));
        end.send(()).unwrap();
        topic
    };
    let (registry, topic) = watched(async { tokio::join!(registry, topic) }).await;
    drop((registry.unwrap(), topic.unwrap()));
    assert_eq!((answers.building(), answers.bytes()), (0, 0));
}

#[tokio::test]
async fn a_dropped_request_ends_its_build() {
    let pool = pool(3);
    let caller = Caller::new().await;
    let (task, mut written) = endless(&pool, &caller);
    watched(written.recv()).await.unwrap().unwrap();
    task.abort();
    assert_eq!(end_of(&mut written).await, NoAnswer::Abandoned);
    fill(&pool, 1).await.unwrap();
}

#[tokio::test]
async fn a_dropped_request_does_not_wait_for_room() {
    let pool = pool(3);
    let unread = fill(&pool, 2 * CHUNK).await.unwrap();
    let dropped = tokio::spawn({
        let pool = pool.clone();
        async move { fill(&pool, 2 * CHUNK).await }
    });
    until(|| pool.held() == 3).await;
    dropped.abort();
    until(|| pool.building() == 0).await;
    assert_eq!(pool.held(), 2);
    drop(unread);
}

#[tokio::test]
async fn a_client_whose_connection_breaks_ends_its_build() {
    let pool = pool(3);
    let caller = Caller::new().await;
    let (task, mut written) = endless(&pool, &caller);
    watched(written.recv()).await.unwrap().unwrap();
    // Closing resets the connection.
    SockRef::from(&caller.peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(caller.peer);
    assert_eq!(end_of(&mut written).await, NoAnswer::Abandoned);
    assert_eq!(
        watched(task).await.unwrap().unwrap_err(),
        NoAnswer::Abandoned
    );
}

#[tokio::test]
async fn a_half_closed_client_is_answered_unless_others_wait() {
    let pool = pool(3);
    let caller = Caller::new().await;
    SockRef::from(&caller.peer)
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    watched(caller.client.closed()).await;
    let build = |page: &mut Page| {
        page.raw(b"all of it");
        page.done()
    };
    let ((), body) = watched(pool.build(&caller.client, build)).await.unwrap();
    let sent = body.collect().await.unwrap().to_bytes();
    assert_eq!(sent.as_ref(), b"all of it");

    let (_task, mut written) = endless(&pool, &caller);
    watched(written.recv()).await.unwrap().unwrap();
    fill(&pool, 1).await.unwrap();
    assert_eq!(end_of(&mut written).await, NoAnswer::Busy);
}

#[tokio::test]
async fn a_half_closed_client_does_not_queue() {
    let pool = pool(3);
    let first = Caller::new().await;
    let (task, mut written) = endless(&pool, &first);
    watched(written.recv()).await.unwrap().unwrap();
    let caller = Caller::new().await;
    SockRef::from(&caller.peer)
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    let build = |page: &mut Page| page.done();
    let refused = watched(pool.build(&caller.client, build)).await;
    assert_eq!(refused.unwrap_err(), NoAnswer::Busy);
    task.abort();
    assert_eq!(end_of(&mut written).await, NoAnswer::Abandoned);
}
