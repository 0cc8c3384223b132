// SPDX-License-Identifier: Apache-2.0

// Package deploy holds the manifests to their word: the Helm chart and the kustomization are rendered by the libraries of
// Helm and kustomize, and read strictly as the types of the Kubernetes API. It is a module of its own, for these libraries
// are no part of the sensor. It holds tests only.
package deploy
