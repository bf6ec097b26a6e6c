package temporal

import (
	"go.temporal.io/server/common/primitives"

	"github.com/mathub/webhooks/standalone/freeport"
)

// The four services, for Settings.Services.
const (
	Frontend = string(primitives.FrontendService)
	History  = string(primitives.HistoryService)
	Matching = string(primitives.MatchingService)
	Worker   = string(primitives.WorkerService)
)

// FrontendPort is where a frontend listens whose server is several processes.
const FrontendPort = 7233

// FindServicePorts finds free ports for the services beside the frontend.
func FindServicePorts() ([]int, error) {
	ports := make([]int, 3)
	for i := range ports {
		var err error
		if ports[i], err = freeport.Find(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}
