use super::server::{Reply, Server, found, unknown};
use super::*;

const STRING: &str = r#""string""#;

fn ids<const N: usize>(ids: [u32; N]) -> BTreeSet<u32> {
    BTreeSet::from(ids)
}

/// What is known of an id, as text.
async fn known(registry: &SchemaRegistry, id: u32) -> String {
    let schemas = registry.schemas(&ids([id])).await.expect("the registry answers");
    match schemas.get(id).expect("it was asked for") {
        Ok(_) => "a schema".to_owned(),
        Err(why) => why.to_string(),
    }
}

async fn away(registry: &SchemaRegistry, id: u32) -> String {
    let error = registry.schemas(&ids([id])).await.expect_err("the registry is away");
    assert!(error.kind() == ErrorKind::SchemaRegistry && error.is_retryable(), "{error:?}");
    error.to_string()
}

async fn refused(registry: &SchemaRegistry, id: u32) -> String {
    let error = registry.schemas(&ids([id])).await.expect_err("the registry refuses");
    assert!(error.kind() == ErrorKind::Config && !error.is_retryable(), "{error:?}");
    error.to_string()
}

fn said(status: u16, error_code: u32) -> Reply {
    Reply::Now(status, format!(r#"{{"error_code": {error_code}, "message": "hunter2"}}"#))
}

#[tokio::test]
async fn a_schema_is_asked_for_once() {
    let server = Server::start();
    server.schema(7, STRING);
    server.schema(8, STRING);
    let registry = SchemaRegistry::new(format!("{}/", server.url()));
    for _ in 0..3 {
        assert_eq!(known(&registry.clone(), 7).await, "a schema");
    }
    let all = registry.schemas(&ids([7, 8])).await.unwrap();
    assert!(all.get(7).is_some() && all.get(8).is_some() && all.get(9).is_none());
    assert_eq!(server.paths(), ["/schemas/ids/7", "/schemas/ids/8"]);
}

#[tokio::test]
async fn many_who_want_one_schema_ask_once() {
    let server = Server::start();
    server.schema(7, STRING);
    let registry = SchemaRegistry::new(server.url());
    let all = (0..20).map(|_| known(&registry, 7));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|it| it == "a schema"));
    assert_eq!(server.paths().len(), 1);
}

#[tokio::test]
async fn many_who_ask_a_registry_that_does_not_answer_wait_as_long_as_one() {
    let server = Server::start();
    server.on("/schemas/ids/7", [Reply::Never]);
    let registry = SchemaRegistry::new(server.url()).timeout(Duration::from_millis(300));
    let all = futures_util::future::join_all((0..20).map(|_| away(&registry, 7))).await;
    assert!(all.iter().all(|it| it.contains("timeout")));
    assert_eq!(server.paths().len(), 1, "one asked for all of them");
    assert!(away(&registry, 7).await.contains("timeout"));
    assert_eq!(server.paths().len(), 2, "it is asked again later");
}

#[tokio::test]
async fn a_question_without_an_answer_holds_up_no_other() {
    let server = Server::start();
    server.on("/schemas/ids/7", [Reply::Never]);
    server.schema(8, STRING);
    let registry = SchemaRegistry::new(server.url()).timeout(Duration::from_secs(60));
    let waiting = tokio::spawn({
        let registry = registry.clone();
        async move { registry.schemas(&ids([7])).await.map(drop) }
    });
    server.asked().await;
    assert_eq!(known(&registry, 8).await, "a schema");
    assert!(!waiting.is_finished());
    // Another asks in the place of the one who gave up.
    let other = away(&registry, 7);
    waiting.abort();
    let (other, ()) = tokio::join!(other, async {
        server.asked().await;
        server.asked().await;
        server.hang_up();
    });
    assert!(other.contains("schema 7 cannot be asked for"), "{other}");
}

#[tokio::test]
async fn no_more_schemas_are_kept_than_was_said() {
    let server = Server::start();
    for id in [1, 2, 3] {
        server.schema(id, STRING);
    }
    let registry = SchemaRegistry::new(server.url()).cache(2);
    for id in [1, 2, 3, 3, 2, 1] {
        assert_eq!(known(&registry, id).await, "a schema");
    }
    assert_eq!(server.paths().len(), 4, "the first was forgotten");
    let all = registry.schemas(&ids([1, 2, 3])).await.unwrap();
    assert!([1, 2, 3].iter().all(|id| all.get(*id).is_some()), "a batch has all of its own");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_believed_when_it_was_said_several_times_over_seconds() {
    let server = Server::start();
    server.on("/schemas/ids/7", [unknown(), unknown(), found(STRING)]);
    let registry = SchemaRegistry::new(server.url());
    let begun = tokio::time::Instant::now();
    assert_eq!(known(&registry, 7).await, "a schema", "it was registered a moment ago");
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    let why = known(&registry, 9).await;
    assert!(why.contains("knows no schema 9"), "{why}");
    assert_eq!(known(&registry, 9).await, why);
    assert_eq!(server.paths().len(), 6, "and not asked for again at once");
}

#[tokio::test]
async fn a_404_that_is_not_the_registrys_own_is_no_answer() {
    let server = Server::start();
    let registry = SchemaRegistry::new(server.url());
    for body in [r#"{"error_code": 404, "message": "HTTP 404 Not Found"}"#, "<html>hunter2"] {
        server.on("/schemas/ids/7", [Reply::Now(404, body.to_owned())]);
        let error = away(&registry, 7).await;
        assert!(error.contains("it answered 404") && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let server = Server::start();
    server.on("/schemas/ids/7", [Reply::Now(401, String::new()), found(STRING)]);
    let registry = SchemaRegistry::new(server.url()).basic_auth("reader", "hunter2");
    let error = refused(&registry, 7).await;
    assert!(error.contains("401") && error.contains(".basic_auth"), "{error}");
    let shown = format!("{error} {registry:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("cmVhZGVy"), "{shown}");
    assert_eq!(known(&registry, 7).await, "a schema");
    let sent: Vec<_> = server.requests().into_iter().filter_map(|it| it.authorization).collect();
    assert_eq!(sent, ["Basic cmVhZGVyOmh1bnRlcjI="; 2]);
}

#[tokio::test]
async fn a_schema_that_may_not_be_read_asks_for_the_permission_and_is_asked_for_again() {
    let server = Server::start();
    server.on("/schemas/ids/7", [said(403, 40301), found(STRING)]);
    let registry = SchemaRegistry::new(server.url());
    let error = refused(&registry, 7).await;
    assert!(error.contains("403") && error.contains("permission"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    assert_eq!(known(&registry, 7).await, "a schema");
}

#[tokio::test]
async fn an_address_that_refuses_beside_one_that_is_away_is_no_refusal() {
    let (one, two) = (Server::start(), Server::start());
    one.on("/schemas/ids/7", [said(401, 401)]);
    two.on("/schemas/ids/7", [said(500, 50001)]);
    let registry = SchemaRegistry::new(one.url()).url(two.url());
    let error = away(&registry, 7).await;
    assert!(error.contains("401") && error.contains("500 (error code 50001)"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_the_registry_calls_invalid_is_believed_when_it_was_said_several_times() {
    let server = Server::start();
    server.on("/schemas/ids/7", [said(422, 42201)]);
    let registry = SchemaRegistry::new(server.url());
    assert!(known(&registry, 7).await.contains("none that is valid"));
    assert_eq!(server.paths().len(), 3);
    // So is a version of what it refers to.
    let references = serde_json::json!([{ "name": "B", "subject": "B", "version": 0 }]);
    let body = serde_json::json!({ "schema": STRING, "references": references });
    server.on("/schemas/ids/8", [Reply::Now(200, body.to_string())]);
    server.on("/subjects/B/versions/0", [said(422, 42202)]);
    assert!(known(&registry, 8).await.contains("none that is valid"));
}

#[tokio::test]
async fn what_the_registry_does_not_say_of_an_id_is_no_answer() {
    let server = Server::start();
    let registry = SchemaRegistry::new(server.url());
    for (status, code) in [(400, 400), (422, 422), (422, 42205), (400, 40001), (429, 42900)] {
        server.on("/schemas/ids/7", [said(status, code)]);
        let error = away(&registry, 7).await;
        assert!(error.contains(&format!("it answered {status}")), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn what_is_broken_now_is_asked_again() {
    let server = Server::start();
    let garbage = Reply::Now(200, "<html>please log in</html>".to_owned());
    let other = Reply::Now(200, r#"{"status": "ok"}"#.to_owned());
    let broken = Reply::Now(500, "oops".to_owned());
    server.on("/schemas/ids/7", [broken, garbage, other, found(STRING)]);
    let registry = SchemaRegistry::new(server.url());
    assert!(away(&registry, 7).await.contains("it answered 500"));
    for _ in 0..2 {
        assert!(away(&registry, 7).await.contains("not a registered schema"));
    }
    assert_eq!(known(&registry, 7).await, "a schema");
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_away() {
    let server = Server::start();
    server.on("/schemas/ids/7", [Reply::Never]);
    let registry = SchemaRegistry::new(server.url()).timeout(Duration::from_millis(200));
    assert!(away(&registry, 7).await.contains("timeout"));
    let address = server.address();
    drop(server);
    // A connection is refused, until there is a server again.
    assert!(away(&registry, 7).await.contains(&address.to_string()));
    let server = Server::start();
    server.schema(7, STRING);
    let registry = SchemaRegistry::new(format!("http://{address}")).url(server.url());
    assert_eq!(known(&registry, 7).await, "a schema", "the second address answers");
}

#[tokio::test]
async fn one_address_that_is_away_leaves_open_whether_an_id_is_known() {
    let (one, two) = (Server::start(), Server::start());
    two.on("/schemas/ids/7", [Reply::Now(503, String::new())]);
    let registry = SchemaRegistry::new(one.url()).url(two.url());
    let error = away(&registry, 7).await;
    assert!(error.contains(&two.url()) && !error.contains(&one.url()), "{error}");
    two.schema(7, STRING);
    two.schema(8, STRING);
    assert_eq!(known(&registry, 7).await, "a schema");
    let before = one.paths().len();
    assert_eq!(known(&registry, 8).await, "a schema");
    assert_eq!(one.paths().len(), before, "the one that answered last is asked first");
}

#[tokio::test]
async fn what_is_registered_and_no_avro_schema_can_never_be_used() {
    let server = Server::start();
    let protobuf = r#"{"schema": "message A {}", "schemaType": "PROTOBUF"}"#;
    server.on("/schemas/ids/7", [Reply::Now(200, protobuf.to_owned())]);
    server.schema(8, "{}");
    let registry = SchemaRegistry::new(server.url());
    assert!(known(&registry, 7).await.contains("PROTOBUF"));
    assert!(known(&registry, 8).await.contains("not an Avro schema"));
}

#[tokio::test]
async fn schemas_that_a_schema_refers_to_are_asked_for_too() {
    let server = Server::start();
    let record = |name: &str, field: &str| {
        format!(
            r#"{{"type": "record", "name": "{name}", "fields": [{{"name": "f", "type": "{field}"}}]}}"#
        )
    };
    let refers = |schema: String, name: &str| {
        let references = serde_json::json!([{ "name": name, "subject": name, "version": 3 }]);
        let body = serde_json::json!({ "schema": schema, "references": references });
        Reply::Now(200, body.to_string())
    };
    server.on("/schemas/ids/7", [refers(record("A", "shop.B"), "shop.B")]);
    server.on("/subjects/shop%2EB/versions/3", [refers(record("shop.B", "C"), "C")]);
    server.on(
        "/subjects/C/versions/3",
        [Reply::Now(502, String::new()), found(&record("shop.C", "long"))],
    );
    let registry = SchemaRegistry::new(server.url());
    assert!(away(&registry, 7).await.contains("it answered 502"));
    assert_eq!(known(&registry, 7).await, "a schema");
}

#[test]
fn mistakes_in_the_settings_are_named_without_what_is_secret() {
    let mistakes = |registry: SchemaRegistry| registry.mistakes().join("\n");
    assert_eq!(mistakes(SchemaRegistry::new("https://registry:8081/apis/ccompat/v7")), "");
    assert!(mistakes(SchemaRegistry::new("registry:8081")).contains("http://"));
    assert!(mistakes(SchemaRegistry::new("http:///x")).contains("is not an address"));
    let inside = SchemaRegistry::new("http://reader:hunter2@registry:8081");
    let shown = format!("{inside:?}");
    let text = mistakes(inside);
    assert!(text.contains(".basic_auth") && !text.contains("hunter2"), "{text}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let pem = SchemaRegistry::new("http://registry:8081").root_certificate("x");
    assert!(mistakes(pem).contains("PEM"));
    let none = SchemaRegistry::new("http://registry:8081").timeout(Duration::ZERO);
    assert!(mistakes(none).contains("timeout"));
}
