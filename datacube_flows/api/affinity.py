"""core/v1 Affinity and the selectors it is made of, field by field as Kubernetes 1.34 has them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from datacube_flows.api.wire import ATOMIC, Int32, LabelKey, Labels, LabelValue, Line, Name, WireModel

Weight = Annotated[Int32, Field(ge=1, le=100, description="Weight, 1 to 100.")]
Keys = tuple[LabelKey, ...]


class LabelSelectorRequirement(WireModel):
    """A label, an operator and the values it is compared with."""

    key: Annotated[LabelKey, Field(description="The label.")]
    operator: Annotated[Literal["In", "NotIn", "Exists", "DoesNotExist"], Field(description="How it is compared.")]
    values: Annotated[
        tuple[LabelValue, ...],
        Field(max_length=64, description="Values of In and NotIn; empty otherwise.", json_schema_extra=ATOMIC),
    ] = ()


class LabelSelector(WireModel):
    """Labels that objects must have; all conditions hold together."""

    match_labels: Annotated[Labels | None, Field(description="Labels with exactly these values.")] = None
    match_expressions: Annotated[
        tuple[LabelSelectorRequirement, ...],
        Field(max_length=32, description="Conditions on labels.", json_schema_extra=ATOMIC),
    ] = ()


class NodeSelectorRequirement(WireModel):
    """A node's label or field, an operator and the values it is compared with."""

    key: Annotated[LabelKey, Field(description="The label or field.")]
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"], Field(description="How it is compared.")
    ]
    values: Annotated[
        tuple[Line, ...], Field(max_length=64, description="What it is compared with.", json_schema_extra=ATOMIC)
    ] = ()


class NodeSelectorTerm(WireModel):
    """Conditions that hold together."""

    match_expressions: Annotated[
        tuple[NodeSelectorRequirement, ...],
        Field(max_length=16, description="Conditions on labels.", json_schema_extra=ATOMIC),
    ] = ()
    match_fields: Annotated[
        tuple[NodeSelectorRequirement, ...],
        Field(max_length=16, description="Conditions on fields.", json_schema_extra=ATOMIC),
    ] = ()


class NodeSelector(WireModel):
    """Nodes that satisfy at least one of the terms."""

    node_selector_terms: Annotated[
        tuple[NodeSelectorTerm, ...], Field(max_length=16, description="The terms.", json_schema_extra=ATOMIC)
    ]


class PreferredSchedulingTerm(WireModel):
    """A term and how much it is worth."""

    weight: Weight
    preference: Annotated[NodeSelectorTerm, Field(description="The term.")]


class NodeAffinity(WireModel):
    """Nodes by their labels."""

    required_during_scheduling_ignored_during_execution: Annotated[
        NodeSelector | None, Field(description="Nodes on which the pod may run.")
    ] = None
    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredSchedulingTerm, ...],
        Field(max_length=16, description="Nodes that are preferred.", json_schema_extra=ATOMIC),
    ] = ()


class PodAffinityTerm(WireModel):
    """Pods, and the part of the cluster that is shared with them or not."""

    label_selector: Annotated[LabelSelector | None, Field(description="Labels of the pods.")] = None
    namespaces: Annotated[
        tuple[Name, ...], Field(max_length=16, description="Namespaces of the pods.", json_schema_extra=ATOMIC)
    ] = ()
    topology_key: Annotated[LabelKey, Field(description="Label of nodes that says what is one place.")]
    namespace_selector: Annotated[LabelSelector | None, Field(description="Labels of the pods' namespaces.")] = None
    match_label_keys: Annotated[
        Keys, Field(max_length=16, description="Labels equal to this pod's.", json_schema_extra=ATOMIC)
    ] = ()
    mismatch_label_keys: Annotated[
        Keys, Field(max_length=16, description="Labels different from this pod's.", json_schema_extra=ATOMIC)
    ] = ()


class WeightedPodAffinityTerm(WireModel):
    """A term and how much it is worth."""

    weight: Weight
    pod_affinity_term: Annotated[PodAffinityTerm, Field(description="The term.")]


class PodAffinity(WireModel):
    """Pods near which, or away from which, the pod runs."""

    required_during_scheduling_ignored_during_execution: Annotated[
        tuple[PodAffinityTerm, ...],
        Field(max_length=16, description="Terms that must hold.", json_schema_extra=ATOMIC),
    ] = ()
    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[WeightedPodAffinityTerm, ...],
        Field(max_length=16, description="Terms that are preferred.", json_schema_extra=ATOMIC),
    ] = ()


class Affinity(WireModel):
    """Where a pod prefers or has to run."""

    node_affinity: Annotated[NodeAffinity | None, Field(description="By labels of nodes.")] = None
    pod_affinity: Annotated[PodAffinity | None, Field(description="Near other pods.")] = None
    pod_anti_affinity: Annotated[PodAffinity | None, Field(description="Away from other pods.")] = None
