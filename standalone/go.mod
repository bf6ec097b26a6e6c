module github.com/mathub/webhooks/standalone

go 1.26.8

replace github.com/mathub/webhooks => ../

require (
	github.com/fergusstrange/embedded-postgres v1.34.0 // indirect
	github.com/lib/pq v1.12.3 // indirect
	github.com/temporalio/ui-server/v2 v2.55.0 // indirect
	github.com/xi2/xz v0.0.0-20171230120015-48954b6210f8 // indirect
	go.temporal.io/server v1.32.1 // indirect
)
