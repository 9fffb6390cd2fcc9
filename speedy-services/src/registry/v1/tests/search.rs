//! `docker search`: what today's client sends, and what it reads.

use super::*;

async fn found(server: &Server, query: &str) -> Vec<String> {
    let body = server.json(&format!("/v1/search?{query}")).await;
    let results = body["results"].as_array().unwrap();
    for result in results {
        // What Docker's client decodes.
        assert!(result["description"].is_string() && result["star_count"].is_u64());
        assert!(result["is_official"].is_boolean() && result["is_automated"].is_boolean());
    }
    results.iter().map(|result| result["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn repositories_of_both_interfaces_are_found() {
    let server = Server::start().await;
    let docker = Docker::new(&[&server]);
    assert_eq!(found(&server, "q=app&n=25").await, Vec::<String>::new());
    docker.push("app", "latest", &LocalImage::chain(1, 1)).await;
    docker.push("both/app", "latest", &LocalImage::chain(1, 1)).await;
    for name in ["both/app", "x/application", "tools/my-app", "other"] {
        server.push_v2_image(name).await;
    }
    let all = ["both/app", "library/app", "x/application", "tools/my-app"];
    assert_eq!(found(&server, "q=app&n=25").await, all);
    assert_eq!(found(&server, "q=APP").await, all, "names have no capitals");
    assert_eq!(found(&server, "q=app&n=3").await, all[..3]);
    assert_eq!(found(&server, "q=app&n=3&page=2").await, all[3..]);
    assert_eq!(found(&server, "q=app&n=99999999999999999999").await, all);
    assert_eq!(found(&server, "q=both%2Fapp").await, ["both/app"]);
    assert_eq!(found(&server, &format!("q={}", "a".repeat(5000))).await, Vec::<String>::new());
    assert_eq!(found(&server, "").await.len(), 5);
    let body = server.json("/v1/search?q=app&n=3&page=2").await;
    assert_eq!((&body["query"], &body["num_results"]), (&json!("app"), &json!(4)));
    assert_eq!((&body["num_pages"], &body["page"], &body["page_size"]), (&json!(2), &json!(2), &json!(3)));
    for query in ["q=a&n=0", "q=a&n=-1", "q=a&n=x", "q=a&page=0", "q=a&page=1.5"] {
        assert_eq!(error(server.get(&format!("/v1/search?{query}")).await).await.0, 400, "{query}");
    }
    // Another registry finds them, too, and what is deleted is not found any more.
    let sibling = server.sibling().await;
    assert_eq!(found(&sibling, "q=library").await, ["library/app"]);
    assert_eq!(sibling.send(Method::DELETE, "/v1/repositories/app/").await.status(), 200);
    assert_eq!(found(&server, "q=library").await, Vec::<String>::new());
}

#[tokio::test]
async fn names_are_read_once_in_a_while() {
    let server =
        Server::with(RegistryOptions::default().search_age(std::time::Duration::from_secs(3600))).await;
    server.push_v2_image("a/first").await;
    assert_eq!(found(&server, "q=a/").await, ["a/first"]);
    let held = server.blobs.budget().total() - server.blobs.budget().available();
    assert!(held > 0, "what is kept is counted");
    server.push_v2_image("a/second").await;
    assert_eq!(found(&server, "q=a/").await, ["a/first"]);
    assert_eq!(found(&server.sibling().await, "q=a/").await, ["a/first", "a/second"]);
}

#[tokio::test]
async fn more_names_than_a_page_of_metadata_are_all_looked_through() {
    use speedy_core::meta::{Transaction, Write};
    let server = Server::start().await;
    for batch in 0..200 {
        let writes = (0..120).map(|at| format!("R/r/team-{}/app-{}", at % 7, batch * 120 + at));
        let transaction = writes.fold(Transaction::new(), |transaction, key| {
            transaction.write(Write::Put(key.into(), bytes::Bytes::new()))
        });
        assert!(server.meta.transact(transaction).await.unwrap().is_committed());
    }
    let body = server.json("/v1/search?q=app&n=1").await;
    assert_eq!(body["num_results"], 24_000);
    assert_eq!(found(&server, "q=app-23999").await, ["team-0/app-23999"]);
}
