#[cfg(unix)]
#[tracing::instrument]
pub(crate) async fn bill(
    event: OrderPlaced,
    cx: &Context,
    tx: &mut Db,
) -> Result<(), Error> {
    insert(event, tx).await
}
#[cfg(unix)]
pub(crate) enum bill {}
#[cfg(unix)]
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "bill";
    const KEY: ::idem::__private::KeySource = ::idem::__private::KeySource::Event;
    fn needs(needs: &mut ::idem::__private::Needs) {
        <&Context as ::idem::__private::Param<'_, Self>>::needs(needs);
        <&mut Db as ::idem::__private::Param<'_, Self>>::needs(needs);
    }
    fn key(
        event: &OrderPlaced,
        _: ::idem::__private::Option<&::idem::__private::Event>,
    ) -> ::idem::__private::Result<::idem::__private::Key, ::idem::__private::KeyError> {
        ::idem::__private::Key::of(&event.event_id)
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<OrderPlaced>,
        mut call: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Result<(), ::idem::__private::Failure> {
        <Result<
            (),
            Error,
        > as ::idem::__private::Returned>::finish(
            bill(
                    event,
                    <&Context as ::idem::__private::Param<'_, Self>>::take(&mut call)?,
                    <&mut Db as ::idem::__private::Param<'_, Self>>::take(&mut call)?,
                )
                .await,
        )
    }
}
#[cfg(unix)]
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &["orders"];
    fn decode(event: &::idem::__private::Event) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::decode_json::<OrderPlaced>(event)
    }
}
#[cfg(unix)]
impl ::idem::__private::KeyedByEvent for bill {}
#[cfg(unix)]
impl bill {
    /// Runs the handler for this event, once for its key, without Kafka.
    ///
    /// # Errors
    /// As `idem::Processor::process`.
    pub(crate) async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: OrderPlaced,
    ) -> ::idem::__private::Processed {
        ::idem::__private::process::<Self>(store, event).await
    }
}
#[cfg(unix)]
const _: () = ::idem::__private::one_connection(
    &[
        <&Context as ::idem::__private::Param<'_, bill>>::IS_CONNECTION,
        <&mut Db as ::idem::__private::Param<'_, bill>>::IS_CONNECTION,
    ],
);
