package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"

	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/workflows"
)

const (
	// leastRetention is Temporal's own default. Less leaves operators little to look at, and lets an event's workflow id
	// be forgotten while backends may still repeat the event.
	leastRetention = 72 * time.Hour
	// oldBacklog is how long a task may wait before more workers are wanted.
	oldBacklog = time.Minute
	// clockQueue is the task queue that the doctor asks once, to see Temporal's clock.
	clockQueue = "mathub-webhooks-doctor"

	dynamicFix = "set Temporal's dynamic configuration as in docker-compose.yml"
)

// temporalExam is the examination of a namespace of Temporal.
type temporalExam struct {
	client    client.Client
	namespace string
	now       func() time.Time
}

func (d *Doctor) examineTemporal(ctx context.Context, program Program) []finding {
	options, err := program.TemporalOptions()
	if err != nil {
		return []finding{failed("Temporal", "correct the TEMPORAL_… variables or the file named by TEMPORAL_CONFIG_FILE", "%s", err)}
	}
	options.Logger = temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)) // what it would log is a finding
	ctx, cancel := context.WithTimeout(ctx, 4*doctorPatience)
	defer cancel()
	connecting, cancelConnecting := context.WithTimeout(ctx, doctorPatience)
	defer cancelConnecting()
	c, err := client.DialContext(connecting, options)
	if err != nil {
		return []finding{failed("Temporal", "start Temporal, or correct TEMPORAL_ADDRESS and TEMPORAL_TLS_…", "cannot connect to %s: %s", options.HostPort, err)}
	}
	defer c.Close()
	x := temporalExam{client: c, namespace: cmp.Or(options.Namespace, client.DefaultNamespace), now: d.now}

	findings := []finding{x.reachable(ctx, options.HostPort)}
	described, missing := x.describe(ctx)
	if described == nil {
		return append(findings, missing)
	}
	findings = append(findings, x.retention(described), x.eagerStart(described), x.searchAttributes(ctx), x.fairness(ctx, workflows.SlowTaskQueue))
	findings = append(findings, x.pollers(ctx)...)
	findings = append(findings, x.stuck(ctx))
	return append(findings, x.clock(ctx))
}

func (x *temporalExam) reachable(ctx context.Context, addr string) finding {
	info, err := x.client.WorkflowService().GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	if err != nil {
		return failed("Temporal", "check Temporal's frontend service", "%s does not answer: %s", addr, err)
	}
	return ok("Temporal", "version %s at %s", info.GetServerVersion(), addr)
}

func (x *temporalExam) describe(ctx context.Context) (*workflowservice.DescribeNamespaceResponse, finding) {
	described, err := x.client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: x.namespace})
	var missing *serviceerror.NamespaceNotFound
	switch {
	case errors.As(err, &missing):
		return nil, failed("Temporal namespace", fmt.Sprintf("run `temporal operator namespace create --namespace %s --retention 7d`, or correct TEMPORAL_NAMESPACE", x.namespace), "%s does not exist", x.namespace)
	case err != nil:
		return nil, failed("Temporal namespace", "check that Temporal reaches its database and that this client may use the namespace", "%s cannot be read: %s", x.namespace, err)
	}
	return described, finding{}
}

func (x *temporalExam) retention(described *workflowservice.DescribeNamespaceResponse) finding {
	kept := described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration()
	if kept < leastRetention {
		return warning("Temporal namespace", fmt.Sprintf("run `temporal operator namespace update --namespace %s --retention 7d`", x.namespace), "%s keeps closed workflows for only %s", x.namespace, kept)
	}
	return ok("Temporal namespace", "%s keeps closed workflows for %s", x.namespace, kept)
}

func (x *temporalExam) eagerStart(described *workflowservice.DescribeNamespaceResponse) finding {
	if !described.GetNamespaceInfo().GetCapabilities().GetEagerWorkflowStart() {
		return warning("Temporal eager start", dynamicFix+": system.enableEagerWorkflowStart", "off, which costs each event a round trip")
	}
	return ok("Temporal eager start", "on: saves each event a round trip when API and worker are one process (`serve`); see docs/scaling.md")
}

func (x *temporalExam) searchAttributes(ctx context.Context) finding {
	const check = "Temporal search attributes"
	listed, err := x.client.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: x.namespace})
	if err != nil {
		return note(check, "cannot be listed by this client: %s", err)
	}
	var missing, wrong []string
	create := "`temporal operator search-attribute create --namespace " + x.namespace
	wanted := searchattr.Wanted()
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		switch has, known := listed.GetCustomAttributes()[name]; {
		case !known:
			missing = append(missing, name)
			create += fmt.Sprintf(" --name %s --type %s", name, wanted[name])
		case has != wanted[name]:
			wrong = append(wrong, fmt.Sprintf("%s is of type %s, not %s", name, has, wanted[name]))
		}
	}
	switch {
	case len(wrong) > 0:
		return failed(check, "remove it with `temporal operator search-attribute remove`; the next process that starts registers it again", "%s", strings.Join(wrong, ", "))
	case len(missing) > 0:
		return warning(check, "start an API or a worker, which registers them, or run "+create+"`", "missing: %s", strings.Join(missing, ", "))
	}
	return ok(check, "all %d registered", len(wanted))
}

// fairness looks at what can be seen of it: Temporal's API does not show matching.enableFairness itself, but bots take
// turns only within a partition, and a server without the product's dynamic configuration gives each queue four.
func (x *temporalExam) fairness(ctx context.Context, queue string) finding {
	const check = "Temporal fairness"
	partitions, err := x.client.WorkflowService().ListTaskQueuePartitions(ctx, &workflowservice.ListTaskQueuePartitionsRequest{
		Namespace: x.namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: queue},
	})
	if err != nil {
		return note(check, "cannot be checked: %s", err)
	}
	if n := len(partitions.GetActivityTaskQueuePartitions()); n != 1 {
		return warning(check, dynamicFix+": matching.enableFairness, and one partition for "+queue, "the slow task queue has %d partitions instead of 1, so one bot can delay others", n)
	}
	return note(check, "the slow task queue has 1 partition, as required. Temporal's API does not show matching.enableFairness: check its dynamic configuration")
}

func (x *temporalExam) pollers(ctx context.Context) (findings []finding) {
	for _, role := range []struct {
		check, queue string
		kind         enumspb.TaskQueueType
	}{
		{"workers", workflows.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW},
		{"workers of large audiences", workflows.BatchTaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW},
		{"workers of queues", workflows.SlowTaskQueue, enumspb.TASK_QUEUE_TYPE_ACTIVITY},
	} {
		described, err := x.client.WorkflowService().DescribeTaskQueue(ctx, &workflowservice.DescribeTaskQueueRequest{
			Namespace: x.namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: role.queue}, TaskQueueType: role.kind, ReportStats: true,
		})
		if err != nil {
			findings = append(findings, failed(role.check, "check that Temporal reaches its database", "task queue %s: %s", role.queue, err))
			continue
		}
		workers := map[string]bool{}
		for _, poller := range described.GetPollers() {
			workers[poller.GetIdentity()] = true
		}
		waiting, age := described.GetStats().GetApproximateBacklogCount(), described.GetStats().GetApproximateBacklogAge().AsDuration()
		switch {
		case len(workers) == 0:
			findings = append(findings, failed(role.check, "start `mathub-webhooks worker` with the same TEMPORAL_NAMESPACE", "none has polled %s in the last five minutes; %d tasks wait", role.queue, waiting))
		case age > oldBacklog:
			findings = append(findings, warning(role.check, "start more workers; see docs/scaling.md", "%d tasks wait on %s, the oldest for %s, with %d workers", waiting, role.queue, age.Round(time.Second), len(workers)))
		default:
			findings = append(findings, ok(role.check, "%d poll %s, %d tasks wait", len(workers), role.queue, waiting))
		}
	}
	return findings
}

// stuck looks for events that were started where no worker takes them.
func (x *temporalExam) stuck(ctx context.Context) finding {
	const check = "stuck events"
	query := workflows.StuckQuery(x.now())
	n, err := searchattr.Stuck(ctx, x.client, query)
	switch {
	case err != nil:
		return note(check, "cannot be counted: %s", err)
	case n == 0:
		return ok(check, "none has run for more than %v", searchattr.StuckAfter)
	}
	fix := fmt.Sprintf("list them in the Web UI with the query %s; the emitter mistyped a task queue other than %s or a type other than %s; terminate those and emit the events again", query, workflows.TaskQueue, "DeliverEvent or DeliverEvents")
	described, err := x.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, PageSize: 1})
	if err != nil || len(described.GetExecutions()) == 0 {
		return warning(check, fix, "%d workflows have run for more than %v", n, searchattr.StuckAfter)
	}
	one := described.GetExecutions()[0]
	return warning(check, fix, "%d workflows have run for more than %v, such as %s, of type %s on task queue %s", n, searchattr.StuckAfter,
		one.GetExecution().GetWorkflowId(), one.GetType().GetName(), one.GetTaskQueue())
}

// clock reads Temporal's clock off the time at which it says it was asked for work: no call tells the time itself.
func (x *temporalExam) clock(ctx context.Context) finding {
	const check = "clock of Temporal"
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	// Temporal refuses long polls with short deadlines: this one is broken off instead.
	polling, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer stop()
	queue, identity := &taskqueuepb.TaskQueue{Name: clockQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL}, "doctor-"+uuid.NewString()
	begin := x.now()
	go func() {
		_, _ = x.client.WorkflowService().PollWorkflowTaskQueue(polling, &workflowservice.PollWorkflowTaskQueueRequest{
			Namespace: x.namespace, TaskQueue: queue, Identity: identity,
		})
	}()
	for {
		described, err := x.client.WorkflowService().DescribeTaskQueue(ctx, &workflowservice.DescribeTaskQueueRequest{
			Namespace: x.namespace, TaskQueue: queue, TaskQueueType: enumspb.TASK_QUEUE_TYPE_WORKFLOW,
		})
		if err != nil {
			return note(check, "cannot be checked: %s", err)
		}
		for _, poller := range described.GetPollers() {
			if poller.GetIdentity() == identity {
				return judgeClock("Temporal", poller.GetLastAccessTime().AsTime(), begin, x.now())
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return note(check, "cannot be checked: Temporal did not list the doctor's poll")
		}
	}
}
