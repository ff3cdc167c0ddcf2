-- A model's own error becomes 424 with the model's code beside it and its body untouched. What Envoy answered itself keeps its
-- code. The router stamps x-envoy-upstream-service-time on every upstream reply and on nothing else.

local LONGEST_ID = 40

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(":status")
  if headers:get("x-envoy-upstream-service-time") == nil then
    if status == "401" or status == "403" then
      -- the deployment is picked before the caller is known: strangers do not learn what is deployed
      headers:remove("azureml-model-deployment")
      headers:remove("azureml-model-session")
    end
  elseif tonumber(status) >= 400 then
    headers:replace("ms-azureml-model-error-statuscode", status)
    headers:replace("ms-azureml-model-error-reason", "model_error")
    headers:replace(":status", "424")
  end
  local id = headers:get("x-ms-client-request-id")
  if id ~= nil and (#id > LONGEST_ID or id:find("[^%w_-]")) then
    local clean = id:gsub("[^%w_-]", ""):sub(1, LONGEST_ID)
    if clean == "" then
      headers:remove("x-ms-client-request-id")
    else
      headers:replace("x-ms-client-request-id", clean)
    end
  end
end
