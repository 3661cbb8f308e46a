async fn bill(&self, event: OrderPlaced) -> Result<(), Error> {
    self.insert(event).await
}
::core::compile_error! {
    "a handler is a free function: move it out of the `impl` or `trait`, and share values with `State<T>`"
}
