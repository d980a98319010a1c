module blockota.example/tlog_vectors

go 1.26

require golang.org/x/mod v0.33.0
