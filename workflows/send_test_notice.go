package workflows

import (
	"context"
	"fmt"
	"strings"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

const noticeTestPrefix = "notice-test-"

func checkNoticeTest(botID, workflowID string) error {
	eventID, ok := strings.CutPrefix(workflowID, noticeTestPrefix)
	switch {
	case !webhook.ValidID(botID):
		return webhook.Invalid("botId", "must be a bot's id")
	case !ok || !webhook.ValidID(eventID):
		return webhook.Invalid("workflow id", fmt.Sprintf("must be %q and an id", noticeTestPrefix))
	}
	return nil
}

// SendTestNotice sends a bot's owner, once, a notice that says that it is a test. The event's id is the workflow's, less
// `notice-test-`.
func SendTestNotice(ctx workflow.Context, botID string) (r delivery.Result, err error) {
	info := workflow.GetInfo(ctx)
	in := delivery.NoticeTest{BotID: botID, EventID: strings.TrimPrefix(info.WorkflowExecution.ID, noticeTestPrefix), At: info.WorkflowStartTime}
	err = workflow.ExecuteLocalActivity(manualActivity(ctx, botID), act.SendTestNotice, in).Get(ctx, &r)
	return r, err
}

// StartNoticeTest runs SendTestNotice to its end. It fails as StartTest does.
func StartNoticeTest(ctx context.Context, c client.Client, a *searchattr.Attributes, botID string) (delivery.Result, error) {
	return runToEnd(ctx, c, a, client.StartWorkflowOptions{ID: noticeTestPrefix + webhook.NewID(), StaticSummary: "test notice to " + botID},
		[]temporal.SearchAttributeUpdate{searchattr.BotID.ValueSet([]string{botID})}, SendTestNotice, botID)
}
