package webhook_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"euler", " a b ", "שלום 👩‍🔬", "می\u200cخواهم", "<b>", strings.Repeat("é", 20)} {
		require.NoError(t, webhook.CheckName("name", name, 20), "%q", name)
	}
	for _, name := range []string{
		"", " ", "\u3000", "a\x00b", "a\nb", "\x1b[31mred", "a\u009bb", "\x7f", "a\u2028b", "a\u2029b", "a\xff", strings.Repeat("é", 21),
		"a\u202eb", "\u2066a\u2069", "a\u200fb", "\u061ca", "a\u200b", "a\u2060b", "\ufeffa", "a\u00adb", "a\U000e0041", "\u3164", "a\u034fb", "\uffa0a", "\u2800", "\u200d", "a\u200c", "\u200da",
	} {
		require.Equal(t, []string{"label"}, fieldsOf(t, webhook.CheckName("label", name, 20)), "%q", name)
		if name != "" {
			require.Error(t, webhook.CheckOptionalName("label", name, 20), "%q", name)
		}
	}
	require.NoError(t, webhook.CheckOptionalName("label", "", 20))
}
