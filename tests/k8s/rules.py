"""All rules, each a function: rendered documents -> what is wrong."""

from tests.k8s import rules_access, rules_jobs, rules_pods, rules_ray, rules_references, schemas

ALL = (
    rules_references.references_resolve,
    rules_references.mounts_match_volumes,
    rules_references.selectors_select,
    rules_references.metrics_exist,
    rules_pods.requests_within_limits,
    rules_pods.gpus_whole_and_placed,
    rules_pods.nobody_is_root,
    rules_pods.images_are_pinned,
    rules_pods.no_service_links,
    rules_pods.tokens_where_needed,
    rules_pods.volumes_are_bounded,
    rules_pods.workers_are_alike,
    rules_ray.group_names_differ,
    rules_ray.replicas_in_order,
    rules_ray.versions_agree,
    rules_ray.ray_sees_the_limits,
    rules_ray.objects_fit_the_shared_memory,
    rules_ray.clusters_are_guarded,
    rules_ray.jobs_have_the_cluster,
    rules_ray.settings_load,
    rules_jobs.rayjobs_are_templates,
    rules_jobs.submission_modes_are_known,
    rules_jobs.environments_name_settings,
    rules_jobs.the_night_is_sound,
    rules_access.rights_are_real,
    rules_access.the_nightly_may_what_it_does,
    rules_access.known_accounts,
    rules_access.no_public_doors,
    rules_access.policies_cover_all,
    rules_access.ways_are_open,
    rules_access.clusters_are_apart,
)

SCHEMAS = (schemas.kubernetes_takes_it, schemas.kuberay_takes_it)
"""What others know of the documents."""
