//! What the expansion looks like, one rule a file in `src/snapshots`. `UPDATE_SNAPSHOTS=1` rewrites.
//!
//! Not here: whether it compiles. That is `tests/ui`.

use std::path::Path;

use proc_macro2::TokenStream;
use quote::quote;

use crate::idempotent_fn;

fn pretty(items: TokenStream) -> String {
    prettyplease::unparse(&syn::parse2(items).expect("a list of items"))
}

/// Compares the expansion with its file and returns how many lines it adds to the function.
fn snapshot(name: &str, words: TokenStream, item: TokenStream) -> usize {
    let text = pretty(idempotent_fn(words, item.clone()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/snapshots/{name}.rs"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &text).expect("the snapshot is written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "the expansion is not {}; run with UPDATE_SNAPSHOTS=1 if this is right:\n{text}",
        path.display()
    );
    // A method is no item.
    let function =
        syn::parse2::<syn::ItemFn>(item).map_or(0, |it| pretty(quote!(#it)).lines().count());
    text.lines().count() - function
}

#[test]
fn the_simple_form_adds_less_than_forty_lines() {
    let added = snapshot(
        "the_simple_form",
        quote!(key = "event_id", store = "postgres", topic = "orders"),
        quote! {
            /// Bills an order.
            pub async fn bill(event: OrderPlaced, tx: &mut PgConnection) -> Result<(), Error> {
                insert(event, tx).await
            }
        },
    );
    assert!(added < 40, "{added} lines");
}

#[test]
fn each_parameter_is_asked_for_by_its_type() {
    snapshot(
        "each_parameter_is_asked_for_by_its_type",
        quote!(key = "event_id", store = "sqlite", topic = "orders"),
        quote! {
            async fn bill(event: OrderPlaced, cx: &Context, tx: &mut Db, mailer: State<Mailer>)
            -> Result<(), Error> {
                insert(event, tx).await
            }
        },
    );
}

#[test]
fn a_key_of_several_fields_is_composite() {
    snapshot(
        "a_key_of_several_fields_is_composite",
        quote!(key = ("tenant", order.id), store = db::Store, topics = ["a", "b"], scope = "s"),
        quote! {
            async fn bill(event: OrderPlaced, tx: &mut Db) -> Result<(), Error> {
                insert(event, tx).await
            }
        },
    );
}

#[test]
fn a_key_in_a_header_puts_a_condition_on_process() {
    snapshot(
        "a_key_in_a_header_puts_a_condition_on_process",
        quote!(key = header("id"), store = "postgres", topic = "orders"),
        quote! {
            async fn bill(event: OrderPlaced, tx: &mut Db) -> Result<(), Error> {
                insert(event, tx).await
            }
        },
    );
}

#[test]
fn a_key_has_sources_of_every_kind() {
    snapshot(
        "a_key_has_sources_of_every_kind",
        quote!(
            key = (
                "tenant",
                header("id"),
                message_key,
                content_hash("a", optional("b")),
                with(Order::key)
            ),
            store = "postgres",
            topic = "orders",
        ),
        quote! {
            async fn bill(event: OrderPlaced) -> Result<(), Error> {
                insert(event).await
            }
        },
    );
}

#[test]
fn a_key_that_may_be_missing_is_asked_whether_it_is() {
    snapshot(
        "a_key_that_may_be_missing_is_asked_whether_it_is",
        quote!(
            key = ("id", with(Order::key)),
            tenant = header("tenant"),
            store = "postgres",
            topic = "orders",
            missing_key = "process_without_guarantee",
        ),
        quote! {
            async fn bill(event: OrderPlaced) -> Result<(), Error> {
                insert(event).await
            }
        },
    );
}

#[test]
fn what_is_allowed_is_a_constant_with_its_reason() {
    snapshot(
        "what_is_allowed_is_a_constant_with_its_reason",
        quote!(
            key = "created_at",
            store = "postgres",
            allow(timestamp_key, reason = "one a second"),
            missing_key = "dead_letter",
        ),
        quote! {
            async fn bill(event: OrderPlaced) -> Result<(), Error> {
                insert(event).await
            }
        },
    );
}

#[test]
fn without_a_topic_there_is_no_subscriber() {
    snapshot(
        "without_a_topic_there_is_no_subscriber",
        quote!(key = "event_id", store = "postgres"),
        quote! {
            async fn bill(event: OrderPlaced) -> Result<(), Error> {
                insert(event).await
            }
        },
    );
}

#[test]
fn a_condition_of_the_function_is_on_every_item() {
    snapshot(
        "a_condition_of_the_function_is_on_every_item",
        quote!(key = "event_id", store = "postgres", topic = "orders"),
        quote! {
            #[cfg(unix)]
            #[tracing::instrument]
            pub(crate) async fn bill(event: OrderPlaced, cx: &Context, tx: &mut Db)
            -> Result<(), Error> {
                insert(event, tx).await
            }
        },
    );
}

#[test]
fn what_is_said_of_failure_time_and_order_is_a_constant() {
    snapshot(
        "what_is_said_of_failure_time_and_order_is_a_constant",
        quote!(
            key = "event_id",
            store = "postgres",
            topic = "orders",
            retry(max = 5, backoff = "200ms..30s", jitter, total = "10m"),
            on_failure = park_key(limit = 5000),
            isolation = "serializable",
            timeout = "1.5s",
            order_by = "message_key",
            slices = 8,
        ),
        quote! {
            async fn bill(event: OrderPlaced) -> Result<(), Error> {
                insert(event).await
            }
        },
    );
}

#[test]
fn markers_that_are_packed_put_a_condition_on_process() {
    snapshot(
        "markers_that_are_packed_put_a_condition_on_process",
        quote!(
            key = "event_id",
            store = "postgres",
            topic = "orders",
            markers = packed(events = 10_000_000, window = "14d"),
        ),
        quote! {
            async fn bill(event: OrderPlaced) -> Result<(), Error> {
                insert(event).await
            }
        },
    );
}

#[test]
fn an_order_without_a_number_has_four_slices() {
    snapshot(
        "an_order_without_a_number_has_four_slices",
        quote!(key = "id", store = "postgres", order_by = message_key, retry = "never"),
        quote! {
            async fn bill(event: OrderPlaced) -> Result<(), Error> {
                insert(event).await
            }
        },
    );
}

#[test]
fn the_word_on_permanent_errors_is_asked_when_the_handler_failed() {
    snapshot(
        "the_word_on_permanent_errors_is_asked_when_the_handler_failed",
        quote!(key = "event_id", store = "postgres", permanent = Error::is_permanent),
        quote! {
            async fn bill(event: OrderPlaced) -> Result<(), Error> {
                insert(event).await
            }
        },
    );
}

#[test]
fn a_batch_handler_is_given_a_vector_and_has_the_key_of_one_event() {
    let added = snapshot(
        "a_batch_handler_is_given_a_vector_and_has_the_key_of_one_event",
        quote!(key = "event_id", store = "postgres", topic = "orders"),
        quote! {
            async fn bill(events: Vec<OrderPlaced>, contexts: &[Context]) -> Result<(), Error> {
                insert(events).await
            }
        },
    );
    assert!(added < 40, "{added} lines");
}

#[test]
fn a_format_is_asked_for_the_event() {
    snapshot(
        "a_format_is_asked_for_the_event",
        quote!(key = "event_id", store = "postgres", topic = "orders", format = "avro"),
        quote! {
            async fn bill(event: OrderPlaced) -> Result<(), Error> {
                insert(event).await
            }
        },
    );
}

#[test]
fn an_event_in_an_option_is_decoded_when_it_has_a_payload() {
    snapshot(
        "an_event_in_an_option_is_decoded_when_it_has_a_payload",
        quote!(
            key = header("id"),
            store = "postgres",
            topic = "orders",
            format = protobuf_registry(message = [1, 0])
        ),
        quote! {
            async fn bill(events: Vec<Option<OrderPlaced>>) -> Result<(), Error> {
                insert(events).await
            }
        },
    );
}

#[test]
fn a_mistake_in_a_batch_handler_keeps_its_event() {
    snapshot(
        "a_mistake_in_a_batch_handler_keeps_its_event",
        quote!(key = "event_id", store = "postgres", retry()),
        quote! {
            async fn bill(events: std::vec::Vec<OrderPlaced>) -> Result<(), Error> {
                insert(events).await
            }
        },
    );
}

#[test]
fn a_mistake_keeps_the_function_and_its_type() {
    snapshot(
        "a_mistake_keeps_the_function_and_its_type",
        quote!(kye = "event_id", store = "postgres", topic = "orders"),
        quote! {
            async fn bill(event: OrderPlaced, tx: &mut PgConnection) -> Result<(), Error> {
                insert(event, tx).await
            }
        },
    );
}

#[test]
fn without_a_store_a_mistake_stands_in_its_place() {
    snapshot(
        "without_a_store_a_mistake_stands_in_its_place",
        quote!(key = "event_id"),
        quote! {
            pub async fn bill(event: &OrderPlaced, tx: &mut Db) -> Result<(), Error> {
                insert(event, tx).await
            }
        },
    );
}

#[test]
fn a_method_is_left_as_it_is() {
    snapshot(
        "a_method_is_left_as_it_is",
        quote!(key = "event_id", store = "postgres"),
        quote! {
            async fn bill(&self, event: OrderPlaced) -> Result<(), Error> {
                self.insert(event).await
            }
        },
    );
}

#[test]
fn what_is_returned_is_stored_and_answered_with() {
    snapshot(
        "what_is_returned_is_stored_and_answered_with",
        quote!(
            key = "event_id",
            store = "postgres",
            topic = "orders",
            store_result,
            payload_check = "dead_letter",
            permanent = BillingError::is_permanent,
        ),
        quote! {
            async fn bill(event: OrderPlaced, tx: &mut Db) -> Result<Receipt, BillingError> {
                insert(event, tx).await
            }
        },
    );
}

#[test]
fn what_is_outside_of_the_database_has_an_end_that_a_probe_knows() {
    snapshot(
        "what_is_outside_of_the_database_has_an_end_that_a_probe_knows",
        quote!(key = "event_id", store = "postgres", effects = external(probe = was_charged)),
        quote! {
            async fn charge(event: OrderPlaced) -> Result<(), Error> {
                remote(event).await
            }
        },
    );
}

#[test]
fn a_cloud_event_has_its_type_in_itself_and_says_its_data() {
    snapshot(
        "a_cloud_event_has_its_type_in_itself_and_says_its_data",
        quote!(
            key = (header("ce_type"), content_hash),
            store = "postgres",
            topic = "orders",
            types = "order.*",
            format = "cloudevents",
            missing_key = "stop"
        ),
        quote! {
            async fn bill(event: CloudEvent<OrderPlaced>) -> Result<(), Error> {
                insert(event).await
            }
        },
    );
}
