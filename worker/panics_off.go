//go:build !failpoints

package worker

import "go.temporal.io/sdk/interceptor"

// interceptors are what the fault tests' build of the program adds; see panics_on.go.
func interceptors() []interceptor.WorkerInterceptor { return nil }
