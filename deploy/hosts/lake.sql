-- The lake's catalog, beside Dagster's own database.
create database lake;
