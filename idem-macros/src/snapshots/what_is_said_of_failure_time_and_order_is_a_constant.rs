async fn bill(event: OrderPlaced) -> Result<(), Error> {
    insert(event).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "bill";
    const POLICY: ::idem::__private::Policy = ::idem::__private::Policy::new()
        .retry(
            ::idem::__private::Retry::new()
                .max(5u32)
                .backoff(
                    ::idem::__private::Duration::from_millis(200u64),
                    ::idem::__private::Duration::from_secs(30u64),
                )
                .jitter(true)
                .total(::idem::__private::Duration::from_secs(600u64)),
        )
        .on_failure(::idem::__private::OnFailure::ParkKey {
            limit: 5000u32,
        })
        .isolation(::idem::__private::IsolationLevel::Serializable)
        .timeout(::idem::__private::Duration::from_millis(1500u64))
        .slices(8u16);
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(event: &OrderPlaced, _: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        ::idem::__private::Key::of(&event.event_id)
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<OrderPlaced>,
        _: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        ::idem::__private::finish::<Result<(), Error>>(bill(event).await)
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &["orders"];
    fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::decode_json::<OrderPlaced>(event)
    }
}
impl ::idem::__private::KeyedByEvent for bill {}
impl bill {
    /// Runs the handler once for the key of the event, as `idem::Processor::process` does.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: OrderPlaced,
    ) -> ::idem::__private::Processed {
        ::idem::__private::process::<Self>(store, event).await
    }
}
