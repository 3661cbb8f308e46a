use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
struct Order {
    cents: i64,
}

fn event(headers: &[(&'static str, &'static str)], payload: &'static str) -> Event {
    let mut event = Event::new("t".into(), 0, 0, payload);
    event.headers = headers.iter().map(|(name, value)| (*name, Some(*value))).collect();
    event
}

const BINARY: &[(&str, &str)] = &[
    ("ce_specversion", "1.0"),
    ("ce_id", "7"),
    ("ce_source", "/shop"),
    ("ce_type", "order.placed"),
];

const STRUCTURED: &[(&str, &str)] =
    &[("content-type", "application/cloudevents+json; charset=UTF-8")];

fn refused(event: &Event) -> String {
    CloudEvent::<Order>::decode(event).expect_err("it is refused").to_string()
}

#[test]
fn in_binary_mode_attributes_are_headers_and_the_data_is_the_payload() {
    let mut headers = BINARY.to_vec();
    headers.extend([
        ("content-type", "application/json"),
        ("ce_subject", "order-7"),
        ("ce_time", "2026-01-02T03:04:05Z"),
        ("ce_dataschema", "https://example.com/order"),
        ("ce_tenant", "a"),
        ("other", "x"),
    ]);
    let decoded = CloudEvent::<Order>::decode(&event(&headers, r#"{"cents": 5}"#)).unwrap();
    let mut expected = CloudEvent::new("7", "/shop", "order.placed", Order { cents: 5 });
    expected.subject = Some("order-7".into());
    expected.time = Some("2026-01-02T03:04:05Z".into());
    expected.data_schema = Some("https://example.com/order".into());
    expected.data_content_type = Some("application/json".into());
    expected.extensions.insert("tenant".into(), "a".into());
    assert_eq!(decoded, expected);
}

#[test]
fn in_structured_mode_all_of_it_is_one_json_object() {
    let payload = r#"{"data": {"cents": 5}, "specversion": "1.0", "id": "7", "source": "/shop",
        "type": "order.placed", "tenant": "a", "retries": 3, "sampled": true, "subject": null}"#;
    let decoded = CloudEvent::<Order>::decode(&event(STRUCTURED, payload)).unwrap();
    let mut expected = CloudEvent::new("7", "/shop", "order.placed", Order { cents: 5 });
    for (name, value) in [("tenant", "a"), ("retries", "3"), ("sampled", "true")] {
        expected.extensions.insert(name.into(), value.into());
    }
    assert_eq!(decoded, expected);
}

#[test]
fn each_missing_attribute_is_named() {
    for (index, name) in ["specversion", "id", "source", "type"].iter().enumerate() {
        let mut headers = BINARY.to_vec();
        headers.remove(index);
        let error = refused(&event(&headers, r#"{"cents": 5}"#));
        assert!(error.contains(&format!("`{name}`")), "{error}");
        headers.insert(index, (BINARY[index].0, ""));
        let error = refused(&event(&headers, r#"{"cents": 5}"#));
        assert!(error.contains(&format!("`{name}`")), "empty is missing: {error}");
    }
    let error =
        refused(&event(STRUCTURED, r#"{"specversion": "1.0", "source": "/", "type": "t"}"#));
    assert!(error.contains("`id`"), "{error}");
    let number = r#"{"specversion": "1.0", "id": 7, "source": "/", "type": "t"}"#;
    assert!(refused(&event(STRUCTURED, number)).contains("`id`"));
}

#[test]
fn what_is_no_cloud_event_or_a_batch_or_another_version_is_refused() {
    assert!(refused(&event(&[], "{}")).contains("no CloudEvent"));
    assert!(refused(&event(&[("content-type", "application/json")], "{}")).contains("ce_"));
    let batch = [("Content-Type", "application/cloudevents-batch+json")];
    assert!(refused(&event(&batch, "[]")).contains("batch"));
    let avro = [("content-type", "application/cloudevents+avro")];
    assert!(refused(&event(&avro, "x")).contains("another format"));
    let mut headers = BINARY.to_vec();
    headers[0].1 = "0.3";
    assert!(refused(&event(&headers, "{}")).contains("1.0"));
    assert!(refused(&event(STRUCTURED, "hunter2")).contains("not JSON"));
}

#[test]
fn data_can_be_base64_or_absent() {
    let of = |rest: &str| {
        let payload =
            format!(r#"{{"specversion": "1.0", "id": "7", "source": "/", "type": "t"{rest}}}"#);
        let mut event = event(STRUCTURED, "");
        event.payload = Some(payload.into());
        event
    };
    let json = of(r#", "data_base64": "eyJjZW50cyI6IDV9""#);
    assert_eq!(CloudEvent::<Order>::decode(&json).unwrap().data, Order { cents: 5 });
    let bytes = of(r#", "data_base64": "AP8=", "datacontenttype": "image/png""#);
    assert_eq!(CloudEvent::<Vec<u8>>::decode(&bytes).unwrap().data, [0, 255]);
    assert!(refused(&of(r#", "data_base64": "!""#)).contains("base64"));
    assert!(refused(&of(r#", "data": 1, "data_base64": "AA==""#)).contains("both"));
    for none in [of(""), of(r#", "data": null"#)] {
        assert_eq!(CloudEvent::<Option<Order>>::decode(&none).unwrap().data, None);
    }
    assert!(refused(&of("")).contains("no data"));
    let mut tombstone = event(BINARY, "");
    tombstone.payload = None;
    assert_eq!(CloudEvent::<Option<Order>>::decode(&tombstone).unwrap().data, None);
    let secret = refused(&of(r#", "data": {"cents": "hunter2"}"#));
    assert!(!secret.contains("hunter2"), "{secret}");
}
