"""What alembic runs: the connection comes from koukan.storage.migrate."""

from alembic import context

from koukan.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
