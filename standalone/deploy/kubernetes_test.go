package deploy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	yamlstream "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/mathub/webhooks/standalone/testkit"
)

const manifests = "../../deploy/kubernetes"

// unmarshalStrict minds the case of fields too, as Kubernetes does and sigs.k8s.io/yaml's function of that name does not.
func unmarshalStrict(document []byte, into any) error {
	converted, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return err
	}
	strict, err := json.UnmarshalStrict(converted, into)
	return errors.Join(append(strict, err)...)
}

// decode reads one manifest into Kubernetes's own type, and refuses unknown and doubled fields.
func decode(document []byte) (any, error) {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return nil, err
	}
	object, ok := map[string]any{
		"v1/Namespace":                           new(corev1.Namespace),
		"v1/ConfigMap":                           new(corev1.ConfigMap),
		"v1/Secret":                              new(corev1.Secret),
		"v1/Service":                             new(corev1.Service),
		"batch/v1/Job":                           new(batchv1.Job),
		"apps/v1/Deployment":                     new(appsv1.Deployment),
		"policy/v1/PodDisruptionBudget":          new(policyv1.PodDisruptionBudget),
		"autoscaling/v2/HorizontalPodAutoscaler": new(autoscalingv2.HorizontalPodAutoscaler),
		"networking.k8s.io/v1/NetworkPolicy":     new(networkingv1.NetworkPolicy),
	}[kind.APIVersion+"/"+kind.Kind]
	if !ok {
		return nil, errors.New("an unknown kind: " + kind.APIVersion + "/" + kind.Kind)
	}
	return object, unmarshalStrict(document, object)
}

func readManifests(t *testing.T, name string) (objects []any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(manifests, name))
	require.NoError(t, err)
	documents := yamlstream.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		require.NoError(t, err)
		object, err := decode(document)
		require.NoError(t, err, name)
		objects = append(objects, object)
	}
}

// kustomization are the manifests that `kubectl apply --kustomize` applies.
func kustomization(t *testing.T) (objects []any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(manifests, "kustomization.yaml"))
	require.NoError(t, err)
	var file struct {
		metav1.TypeMeta `json:",inline"`

		Namespace string   `json:"namespace"`
		Resources []string `json:"resources"`
		Images    []struct {
			Name    string `json:"name"`
			NewName string `json:"newName"`
			NewTag  string `json:"newTag"`
		} `json:"images"`
	}
	require.NoError(t, unmarshalStrict(raw, &file))
	require.NotEqual(t, "latest", file.Images[0].NewTag)
	for _, name := range file.Resources {
		objects = append(objects, readManifests(t, name)...)
	}
	return objects
}

// only are the objects of one kind.
func only[T any](objects []any) (found []T) {
	for _, object := range objects {
		if one, ok := object.(T); ok {
			found = append(found, one)
		}
	}
	return found
}

// TestManifestsAreReadStrictly: Kubernetes would leave out a misspelt field, and say nothing on older versions.
func TestManifestsAreReadStrictly(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(manifests, "migrate.yaml"))
	require.NoError(t, err)
	misspelt := bytes.Replace(raw, []byte("readOnlyRootFilesystem"), []byte("readOnlyRootFileSystem"), 1)
	require.NotEqual(t, raw, misspelt)
	_, err = decode(misspelt)
	require.ErrorContains(t, err, "readOnlyRootFileSystem")
	require.Len(t, only[*corev1.Secret](readManifests(t, "secret.example.yaml")), 3)
}

// TestPodsRunTheProductWithoutPrivileges looks at every pod: what it may do, what it is told, and that each variable
// and each reference exists.
func TestPodsRunTheProductWithoutPrivileges(t *testing.T) {
	t.Parallel()
	objects := append(kustomization(t), readManifests(t, "secret.example.yaml")...)
	variables := map[string][]string{}
	for _, config := range only[*corev1.ConfigMap](objects) {
		variables["config "+config.Name] = slices.Collect(maps.Keys(config.Data))
	}
	for _, secret := range only[*corev1.Secret](objects) {
		variables["secret "+secret.Name] = slices.Collect(maps.Keys(secret.StringData))
	}
	pods := map[string]corev1.PodSpec{}
	for _, job := range only[*batchv1.Job](objects) {
		pods["migrate"] = job.Spec.Template.Spec
	}
	for _, deployment := range only[*appsv1.Deployment](objects) {
		pods[deployment.Spec.Template.Labels["part"]] = deployment.Spec.Template.Spec
	}
	require.ElementsMatch(t, []string{"migrate", "api", "worker"}, slices.Collect(maps.Keys(pods)))
	binary := testkit.Build(t)
	for part, pod := range pods {
		require.True(t, *pod.SecurityContext.RunAsNonRoot, part)
		require.False(t, *pod.AutomountServiceAccountToken, part)
		require.Len(t, pod.Containers, 1)
		container := pod.Containers[0]
		require.Equal(t, []string{part}, container.Args)
		require.Empty(t, container.Command, "the image's entrypoint")
		require.True(t, *container.SecurityContext.ReadOnlyRootFilesystem, part)
		require.False(t, *container.SecurityContext.AllowPrivilegeEscalation, part)
		require.Equal(t, []corev1.Capability{"ALL"}, container.SecurityContext.Capabilities.Drop, part)
		require.NotEmpty(t, container.Resources.Requests.Cpu().String(), part)
		require.False(t, container.Resources.Limits.Memory().IsZero(), part)
		help := knownVariables(t, binary, "serve")
		for _, from := range container.EnvFrom {
			var reference string
			if from.ConfigMapRef != nil {
				reference = "config " + from.ConfigMapRef.Name
			} else {
				reference = "secret " + from.SecretRef.Name
			}
			require.Contains(t, variables, reference, part)
			requireKnown(t, help, reference, variables[reference])
		}
	}
	requireProbe(t, pods["api"].Containers[0], "internal", 8081)
	requireProbe(t, pods["worker"].Containers[0], "admin", 6060)
	require.Equal(t, "/healthz", pods["api"].Containers[0].LivenessProbe.HTTPGet.Path)
	require.Equal(t, "internal", pods["api"].Containers[0].LivenessProbe.HTTPGet.Port.String(), "strangers must not be able to have pods restarted")
	for part, pod := range pods {
		var told []string
		for _, from := range pod.Containers[0].EnvFrom {
			if from.SecretRef != nil {
				told = append(told, variables["secret "+from.SecretRef.Name]...)
			}
		}
		require.Equal(t, part == "api", slices.Contains(told, "MATHUB_SERVICE_TOKEN"), "%s: the API alone asks for the token", part)
	}
}

func requireProbe(t *testing.T, container corev1.Container, port string, number int32) {
	t.Helper()
	require.True(t, slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool {
		return p.Name == port && p.ContainerPort == number
	}), container.Name)
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.ReadinessProbe} {
		require.Equal(t, "/readyz", probe.HTTPGet.Path, container.Name)
		require.Equal(t, port, probe.HTTPGet.Port.String(), container.Name)
	}
	require.NotEqual(t, "/readyz", probePath(container.LivenessProbe), "no restart when Postgres is down")
}

func probePath(probe *corev1.Probe) string {
	if probe.HTTPGet == nil {
		return ""
	}
	return probe.HTTPGet.Path
}

// TestSelectorsFindTheirPods: a selector that finds none is valid, and protects nothing.
func TestSelectorsFindTheirPods(t *testing.T) {
	t.Parallel()
	objects := kustomization(t)
	pods := map[string]labels.Set{}
	for _, deployment := range only[*appsv1.Deployment](objects) {
		pods[deployment.Name] = deployment.Spec.Template.Labels
		requireFinds(t, pods[deployment.Name], deployment.Spec.Selector)
	}
	for _, budget := range only[*policyv1.PodDisruptionBudget](objects) {
		require.Contains(t, pods, budget.Name)
		requireFinds(t, pods[budget.Name], budget.Spec.Selector)
	}
	for _, policy := range only[*networkingv1.NetworkPolicy](objects) {
		require.Contains(t, pods, policy.Name)
		requireFinds(t, pods[policy.Name], &policy.Spec.PodSelector)
	}
	for _, service := range only[*corev1.Service](objects) {
		require.True(t, labels.SelectorFromSet(service.Spec.Selector).Matches(pods["mathub-webhooks-api"]), service.Name)
	}
	scalers := only[*autoscalingv2.HorizontalPodAutoscaler](objects)
	require.Len(t, scalers, 2)
	for _, scaler := range scalers {
		require.Contains(t, pods, scaler.Spec.ScaleTargetRef.Name)
	}
}

// TestStrangersReachThePublicPortAlone: the proxy's namespace is let in to it, the backend's to the service API's, and each
// service leads to one of them.
func TestStrangersReachThePublicPortAlone(t *testing.T) {
	t.Parallel()
	objects := kustomization(t)
	ports := map[string]int32{}
	for _, deployment := range only[*appsv1.Deployment](objects) {
		for _, port := range deployment.Spec.Template.Spec.Containers[0].Ports {
			ports[port.Name] = port.ContainerPort
		}
	}
	for _, config := range only[*corev1.ConfigMap](objects) {
		require.Equal(t, fmt.Sprintf("0.0.0.0:%d", ports["http"]), config.Data["MATHUB_ADDR"])
		require.Equal(t, fmt.Sprintf("0.0.0.0:%d", ports["internal"]), config.Data["MATHUB_INTERNAL_ADDR"])
	}
	leads := map[string]string{}
	for _, service := range only[*corev1.Service](objects) {
		require.Len(t, service.Spec.Ports, 1)
		leads[service.Name] = service.Spec.Ports[0].TargetPort.String()
	}
	require.Equal(t, map[string]string{"mathub-webhooks-api": "http", "mathub-webhooks-internal": "internal"}, leads)
	let := map[string]string{}
	for _, policy := range only[*networkingv1.NetworkPolicy](objects) {
		if policy.Name != "mathub-webhooks-api" {
			continue
		}
		for _, rule := range policy.Spec.Ingress {
			require.Len(t, rule.From, 1)
			require.Len(t, rule.Ports, 1)
			let[rule.Ports[0].Port.String()] = rule.From[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]
		}
	}
	require.Equal(t, map[string]string{"8080": "ingress-nginx", "8081": "mathub", "6060": "monitoring"}, let)
}

func requireFinds(t *testing.T, pod labels.Set, selector *metav1.LabelSelector) {
	t.Helper()
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	require.NoError(t, err)
	require.True(t, compiled.Matches(pod), "%s does not find %s", compiled, pod)
}
