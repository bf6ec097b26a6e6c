//go:build failpoints

package worker

import (
	"context"
	"fmt"
	"os"
	"sync"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"
)

// interceptors make, if MATHUB_PANIC_ONCE is set, each workflow and each activity panic once before it begins and once
// when it is done, with its work made and its result lost.
func interceptors() []interceptor.WorkerInterceptor {
	if os.Getenv("MATHUB_PANIC_ONCE") == "" {
		return nil
	}
	return []interceptor.WorkerInterceptor{&panics{}}
}

type panics struct {
	interceptor.WorkerInterceptorBase
	had sync.Map // by what the panic says
}

func (p *panics) once(when, kind, name string) {
	what := fmt.Sprintf("panicked on purpose %s %s %s", when, kind, name)
	if _, before := p.had.LoadOrStore(what, true); !before {
		fmt.Fprintln(os.Stderr, what)
		panic(what)
	}
}

func (p *panics) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &activityPanics{interceptor.ActivityInboundInterceptorBase{Next: next}, p}
}

func (p *panics) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &workflowPanics{interceptor.WorkflowInboundInterceptorBase{Next: next}, p}
}

type activityPanics struct {
	interceptor.ActivityInboundInterceptorBase
	panics *panics
}

func (a *activityPanics) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	name := activity.GetInfo(ctx).ActivityType.Name
	a.panics.once("before", "activity", name)
	result, err := a.Next.ExecuteActivity(ctx, in)
	a.panics.once("after", "activity", name)
	return result, err
}

type workflowPanics struct {
	interceptor.WorkflowInboundInterceptorBase
	panics *panics
}

func (w *workflowPanics) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	name := workflow.GetInfo(ctx).WorkflowType.Name
	w.panics.once("before", "workflow", name)
	result, err := w.Next.ExecuteWorkflow(ctx, in)
	w.panics.once("after", "workflow", name)
	return result, err
}
