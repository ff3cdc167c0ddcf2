-- A model's own error becomes 424 with the model's code beside it and its body untouched. What Envoy answered itself keeps its
-- code: local replies carry x-portway-reply, which no upstream's answer can (routes take it off).

local LONGEST_ID = 40

-- A body that does not say its length is collected first, so that a too large one is 413 before the model sees any of it.
-- Envoy itself stops collecting at the route's limit or at its connection buffer, whichever is more. All else streams through.
function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get("content-length") ~= nil or headers:get("upgrade") ~= nil then return end
  local kind = headers:get("content-type")
  if kind ~= nil and kind:find("^application/grpc") then return end
  local limit = handle:metadata():get("body_limit")
  local body = handle:body()
  if limit ~= nil and body ~= nil and body:length() > limit then
    handle:respond({ [":status"] = "413" }, "too large")
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(":status")
  if headers:get("x-portway-reply") ~= nil then
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
