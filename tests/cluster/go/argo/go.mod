// Argo's controller, and what it puts beside each container. Its own go.mod, which the module holds, pins the rest.
module datacube.test/argo

go 1.25.0

tool (
	github.com/argoproj/argo-workflows/v4/cmd/argoexec
	github.com/argoproj/argo-workflows/v4/cmd/workflow-controller
)

require github.com/argoproj/argo-workflows/v4 v4.0.2
