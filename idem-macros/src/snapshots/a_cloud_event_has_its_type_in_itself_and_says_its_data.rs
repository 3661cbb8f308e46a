async fn bill(event: CloudEvent<OrderPlaced>) -> Result<(), Error> {
    insert(event).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<CloudEvent<OrderPlaced>>;
    const SCOPE: ::idem::__private::Text = "bill";
    const KEY: ::idem::__private::KeySource = ::idem::__private::KeySource::Message;
    const POLICY: ::idem::__private::Policy = ::idem::__private::Policy::new()
        .missing_key(::idem::__private::MissingKey::Stop);
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(
        _: &CloudEvent<OrderPlaced>,
        source: ::idem::__private::Msg,
    ) -> ::idem::__private::Keyed {
        ::idem::__private::Key::composite(
            &[
                ::idem::__private::key_part(
                    &::idem::__private::header_part(source, "ce_type")?,
                ),
                ::idem::__private::key_part(&::idem::__private::cloud_event_key(source)?),
            ],
        )
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<CloudEvent<OrderPlaced>>,
        _: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        ::idem::__private::finish::<Result<(), Error>>(bill(event).await)
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &["orders"];
    const TYPES: ::idem::__private::Types = ::idem::__private::types(&["order.*"]);
    fn event_type() -> ::idem::__private::TypeFrom {
        ::idem::__private::type_from(::idem::__private::EventType::cloud_event())
    }
    fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::formats::cloudevents!(CloudEvent < OrderPlaced >, event)
    }
}
impl bill {
    /// Runs the handler once for the key of the event, as `idem::Processor::process` does.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: CloudEvent<OrderPlaced>,
    ) -> ::idem::__private::Processed
    where
        for<'a> Self: ::idem::__private::KeyedByEvent,
    {
        ::idem::__private::process::<Self>(store, event).await
    }
}
